"""The command that runs a sandbox."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from mioesim_async.cli.examples import examples
from mioesim_async.cli.exit_status import INTERRUPTED, OK
from mioesim_async.cli.running import Flag, Port, Positive, app, guarded
from mioesim_async.errors import InvalidRequest

if TYPE_CHECKING:
    from mioesim_async.sandbox import Sandbox

__all__: list[str] = []

STOCK = re.compile(r"([0-9]+)/([0-9]+)=([0-9]+)", re.ASCII)


@app.command(name="sandbox", help_epilogue=examples("sandbox"))
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
    odd: Annotated[bool, Flag] = False,
    stock: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    control: Annotated[bool, Flag] = False,
    debug: Annotated[bool, Flag] = False,
) -> int:
    """Run a sandbox, and print the environment variables that make other commands use it.

    Args:
        cards: How many cards its account has.
        seed: Another seed makes other cards.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        fault: What goes wrong, as ``name[=value][@endpoint][*times]``, such as
            ``http=503@queryIccidInformation*10``; without times, in every call. May be repeated.
        capacity: Answer 429 if more calls than this run at once.
        order_form: Form of the reply to an order: order, number, object with number only, list,
            strange or nothing.
        search: What a search for orders returns: by reference, ignores references or lists all.
        odd: Also write the other spellings and types of fields that a client may get.
        stock: How many cards are left of a package, as ``SKU/PRICE=N``. May be repeated.
        control: Also listen on another port of 127.0.0.1, over which tests read orders and
            requests, move the clock, add faults and set cards. Its URL and its token are printed.
            All requests are kept in memory.
        debug: Show logs and tracebacks.
    """

    def serve() -> Coroutine[Any, Any, int]:
        # A server takes longer to import than the rest of the command.
        from mioesim_async.sandbox import Sandbox
        from mioesim_async.sandbox.fault_specs import parse_fault

        sandbox = Sandbox(
            cards,
            seed,
            host=host,
            port=port,
            record=control,
            capacity=capacity,
            order_form=order_form,
            search=search,
            odd=odd,
        )
        sandbox.stock.update(map(_stock_of, stock))
        for spec in map(parse_fault, fault):
            sandbox.faults.add(spec.fault, spec.endpoint, times=spec.times)
        return _serve(sandbox, control=control)

    status = guarded(serve, debug=debug)
    # Ctrl-C is how a server is stopped.
    return OK if status == INTERRUPTED else status


def _stock_of(text: str) -> tuple[tuple[int, int], int]:
    found = STOCK.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"--stock takes SKU/PRICE=N, such as 45/441=3; not {text!r}")
    sku_id, price_id, left = map(int, found.groups())
    return (sku_id, price_id), left


async def _serve(sandbox: Sandbox, *, control: bool) -> int:
    from mioesim_async.sandbox import SandboxControl

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(sandbox)
        variables = sandbox.environ
        if control:
            variables |= (await stack.enter_async_context(SandboxControl(sandbox))).environ
        for name, value in variables.items():
            print(f"export {name}={shlex.quote(value)}")
        print(
            f"# {len(sandbox.iccids)} cards, the first is {sandbox.iccids[0]}; Ctrl-C stops",
            flush=True,
        )
        await asyncio.Event().wait()
    return OK
