"""The command that queries cards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mioesim_async.cli.account import ACCOUNT, AccountOptions
from mioesim_async.cli.query import Format, QueryOptions, query_cards
from mioesim_async.cli.running import Flag, Positive, app, guarded

__all__: list[str] = []


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
    account: AccountOptions = ACCOUNT,
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
        account: Options of the account.
        debug: Show logs and tracebacks.
    """
    options = QueryOptions(iccids, file, column, sandbox, output, format, concurrency, account)
    return guarded(lambda: query_cards(options), debug=debug)
