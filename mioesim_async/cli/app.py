"""The commands; importing it registers them all."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from mioesim_async.cli import (
    commands_buying,
    commands_cards,
    commands_catalogue,
    commands_orders,
)
from mioesim_async.cli.query import Format, QueryOptions, query_cards
from mioesim_async.cli.running import Flag, Port, Positive, app, guarded, run
from mioesim_async.cli.status import INTERRUPTED, OK
from mioesim_async.errors import InvalidRequest
from mioesim_async.sandbox import Sandbox
from mioesim_async.sandbox.specs import parse_fault

__all__ = ["run"]

STOCK = re.compile(r"([0-9]+)/([0-9]+)=([0-9]+)", re.ASCII)

COMMANDS = (commands_catalogue, commands_cards, commands_buying, commands_orders)
"""Importing them registers their commands."""

app.register_install_completion_command(
    help="Install completion for bash, zsh, fish or PowerShell (--shell names another)."
)


@app.command
def query(
    *iccids: str,
    file: Annotated[
        Path | None, Parameter(name=["--file", "-f"], allow_leading_hyphen=True)
    ] = None,
    column: Annotated[str | None, Parameter(name=["--column", "-c"])] = None,
    sandbox: Annotated[int | None, Positive] = None,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], allow_leading_hyphen=True)
    ] = None,
    format: Format | None = None,  # noqa: A002 - it is the option's name
    concurrency: Annotated[int, Positive] = 8,
    profile: str | None = None,
    debug: Annotated[bool, Flag] = False,
) -> int:
    """Query status and usage of any number of cards.

    Takes ICCIDs from the arguments, else from --file, else from standard input. The account
    comes from --profile, else from MIOESIM_PHONE_NUMBER, MIOESIM_PASSWORD, MIOESIM_SECRET_KEY
    and MIOESIM_BASE_URL.

    Exit status: 0 all found, 1 some missing or failed, 2 wrong usage, 3 not logged in,
    130 interrupted.

    Args:
        iccids: ICCIDs to query.
        file: A text file with one ICCID per line, or a CSV file.
        column: The CSV column that holds the ICCIDs.
        sandbox: Start a sandbox with that many cards and query it; no account, no network.
        output: Write the result to a file; its ending chooses the format.
        format: How to write the result.
        concurrency: How many batches of 100 are under way at once.
        profile: The account of this name in profiles.toml.
        debug: Show logs and tracebacks.
    """
    options = QueryOptions(iccids, file, column, sandbox, output, format, concurrency, profile)
    return guarded(lambda: query_cards(options), debug=debug)


@app.command(name="sandbox")
def serve_sandbox(
    *,
    cards: Annotated[int, Positive] = 1000,
    seed: int = 0,
    host: str = "127.0.0.1",
    port: Annotated[int, Port] = 0,
    fault: Annotated[tuple[str, ...], Parameter(negative="", allow_leading_hyphen=True)] = (),
    capacity: Annotated[int | None, Positive] = None,
    order_form: str = "order",
    search: str = "by reference",
    stock: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    debug: Annotated[bool, Flag] = False,
) -> int:
    """Run a sandbox by itself, and print the environment variables that lead to it.

    Args:
        cards: How many cards its account has.
        seed: Another seed makes other cards.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        fault: What shall go wrong, as ``name[=value][@endpoint][*times]``, such as
            ``http=503@queryIccidInformation*10``; without times, for ever. May be repeated.
        capacity: Answer 429 to more calls at once than that.
        order_form: Form of the reply to orders: order, number, object with number only, list,
            strange or nothing.
        search: How orders are searched: by reference, ignores references or lists all.
        stock: How many cards are left of a package, as ``SKU/PRICE=N``. May be repeated.
        debug: Show logs and tracebacks.
    """

    def serve() -> Coroutine[Any, Any, int]:
        sandbox = Sandbox(
            cards,
            seed,
            host=host,
            port=port,
            record=False,
            capacity=capacity,
            order_form=order_form,
            search=search,
        )
        sandbox.stock.update(map(_stock_of, stock))
        for spec in map(parse_fault, fault):
            sandbox.faults.add(spec.fault, spec.endpoint, times=spec.times)
        return _serve(sandbox)

    status = guarded(serve, debug=debug)
    # Ctrl-C is how a server is stopped.
    return OK if status == INTERRUPTED else status


def _stock_of(text: str) -> tuple[tuple[int, int], int]:
    found = STOCK.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"--stock takes SKU/PRICE=N, such as 45/441=3; not {text!r}")
    sku_id, price_id, left = map(int, found.groups())
    return (sku_id, price_id), left


async def _serve(sandbox: Sandbox) -> int:
    async with sandbox:
        account = sandbox.credentials
        variables = {
            "MIOESIM_BASE_URL": sandbox.url,
            "MIOESIM_PHONE_NUMBER": account.phone_number,
            "MIOESIM_PASSWORD": account.password,
            "MIOESIM_SECRET_KEY": account.secret_key,
        }
        for name, value in variables.items():
            print(f"export {name}={shlex.quote(value)}")
        print(
            f"# {len(sandbox.iccids)} cards, the first is {sandbox.iccids[0]}; Ctrl-C stops",
            flush=True,
        )
        await asyncio.Event().wait()
    return OK
