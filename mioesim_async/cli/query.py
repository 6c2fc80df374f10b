"""``mioesim query``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import IO, Annotated, Literal

from attrs import Factory, define, frozen
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mioesim_async import errors
from mioesim_async.api.sweep import CardStream
from mioesim_async.cli.accounts import ACCOUNT, AccountOptions, client_for, logged_in
from mioesim_async.cli.exit_status import FAILED, OK
from mioesim_async.cli.iccid_sources import Source, open_source
from mioesim_async.cli.printing import amount, printable, progress
from mioesim_async.cli.running import Flag, Positive, app, guarded
from mioesim_async.cli.targets import target_of
from mioesim_async.cli.writers import WRITERS, Writer
from mioesim_async.client import MioEsimClient
from mioesim_async.models.cards import CardOutcome

__all__ = ["Format", "QueryOptions", "query_cards"]

Format = Literal["table", "csv", "json", "jsonl"]
ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".table": "table",
    ".txt": "table",
}


@frozen
class QueryOptions:
    """The options of the command line."""

    iccids: tuple[str, ...]
    file: Path | None
    column: str | None
    sandbox: int | None
    output: Path | None
    format: Format | None
    concurrency: int
    account: AccountOptions

    @property
    def writes(self) -> Format:
        """The format: ``--format``, else by the output file's ending, else a table."""
        if self.format is not None:
            return self.format
        if self.output is None or self.output == Path("-"):
            return "table"
        ending = self.output.suffix.lower()
        if ending not in ENDINGS:
            raise errors.InvalidRequest(
                f"{self.output.name} ends in none of {', '.join(ENDINGS)}; choose a --format"
            )
        return ENDINGS[ending]

    @property
    def target(self) -> Path | None:
        """The file to write, or None for standard output."""
        if self.output is None or self.output == Path("-"):
            return None
        return target_of(self.output, "--output")


@define
class Totals:
    """Totals over all cards."""

    statuses: Counter[str] = Factory(Counter)
    used_mb: float = 0.0
    remaining_mb: float = 0.0
    first_error: errors.MioEsimError | None = None
    _status: str | None = None
    _name: str = "(none)"

    def add(self, outcome: CardOutcome) -> None:
        """Count one outcome."""
        card = outcome.card
        if card is None:
            self.first_error = self.first_error or outcome.error
            return
        if card.dp_status is not self._status:
            self._status = card.dp_status
            self._name = str(self._status or "(none)")
        # Counted by text, since enum members hash slowly.
        self.statuses[self._name] += 1
        self.used_mb += card.used_mb or 0.0
        self.remaining_mb += card.remaining_mb or 0.0


async def query_cards(options: QueryOptions) -> int:
    """Run the command and return its exit status.

    Raises:
        MioEsimError: If the sweep ended early.
        OSError: If a file can't be read or written.
    """
    _ = options.writes, options.target  # Refuses wrong usage before anything starts.
    if options.sandbox is not None and options.account != ACCOUNT:
        raise errors.InvalidRequest(
            "--sandbox has an account of its own; it can't be used with --profile, --proxy or "
            "--allow-insecure-http"
        )
    if options.sandbox is not None and options.column is not None and options.file is None:
        raise errors.InvalidRequest("--column needs a CSV file or standard input")
    async with AsyncExitStack() as stack:
        named = options.iccids or options.file
        if options.sandbox is not None:
            # Imported late: the server takes longer to import than the rest of the command.
            from mioesim_async.sandbox import Sandbox

            sandbox = Sandbox(options.sandbox, record=False)
            source = (
                open_source(options.iccids, options.file, options.column)
                if named
                else Source(sandbox.iccids, len(sandbox.iccids))
            )
            await stack.enter_async_context(sandbox)
            client = await stack.enter_async_context(
                sandbox.client(max_in_flight=_slots_for(options.concurrency))
            )
        else:
            source = open_source(options.iccids, options.file, options.column)
            client = await stack.enter_async_context(
                client_for(
                    options.account,
                    max_in_flight=_slots_for(options.concurrency),
                    order_journal=None,
                )
            )
        stack.callback(source.close)
        # This checks the ICCIDs before the login sends anything.
        stream = await stack.enter_async_context(
            client.cards.query_many(source.items, concurrency=options.concurrency)
        )
        started = time.monotonic()
        try:
            await logged_in(client)
        except asyncio.CancelledError:
            Console(stderr=True).print("Interrupted during the login; no card was queried.")
            raise
        return await _sweep(options, source, client, stream, started)


def _slots_for(concurrency: int) -> int:
    """Return a ``max_in_flight`` that is enough for a sweep of this concurrency."""
    return max(32, 2 * concurrency)


async def _sweep(
    options: QueryOptions,
    source: Source,
    client: MioEsimClient,
    stream: CardStream,
    started: float,
) -> int:
    totals = Totals()
    ended = "Ended early"
    writes, to_file = options.writes, options.target is not None
    mixed = writes != "table" and not to_file and sys.stdout.isatty()
    with _opened(options.target) as file:
        writer = WRITERS[writes](file)
        try:
            async with stream:
                await _copy(stream, writer, totals, source.total, quiet=mixed)
            ended = ""
        except asyncio.CancelledError:
            ended = "Interrupted"
            raise
        finally:
            writer.close()
            on_stdout = writes == "table" and not to_file
            _print_summary(
                Console(stderr=not on_stdout),
                client,
                stream,
                totals,
                time.monotonic() - started,
                ended,
            )
    stats = stream.stats
    return OK if stats.found == stats.input else FAILED


async def _copy(
    stream: CardStream, writer: Writer, totals: Totals, total: int | None, *, quiet: bool
) -> None:
    count = 0
    with progress("Querying cards", total, quiet=quiet) as move:
        async for outcome in stream:
            writer.write(outcome)
            totals.add(outcome)
            count += 1
            if count % 100 == 0:
                move(count, None)
        move(count, count)


@contextmanager
def _opened(target: Path | None) -> Generator[IO[str]]:
    if target is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    with target.open("w", encoding="utf-8", newline="") as file:
        yield file


def _print_summary(
    console: Console,
    client: MioEsimClient,
    stream: CardStream,
    totals: Totals,
    seconds: float,
    ended: str,
) -> None:
    stats, calls = stream.stats, client.stats()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    rows: list[tuple[str, str]] = [
        (f"Cards {printable(status)}", f"{count:,}")
        for status, count in sorted(totals.statuses.items())
    ]
    rows += [
        ("Cards found", f"{stats.found:,}"),
        ("Missing", f"{stats.missing:,}"),
        ("Failed", f"{stats.failed:,}"),
        ("Data used", amount(totals.used_mb) or ""),
        ("Data remaining", amount(totals.remaining_mb) or ""),
        ("Requests", f"{calls.requests:,}"),
        ("Logins", f"{calls.logins:,}"),
        ("Connections", f"{calls.connections:,}"),
        ("Time", f"{seconds:,.2f} s"),
    ]
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    if ended:
        console.print(f"{ended} after {stats.input:,} cards.", style="bold")
    console.print(table)
    if totals.first_error is not None:
        first = printable(str(totals.first_error)) or ""
        console.print(f"First error: {first}", markup=False, highlight=False, soft_wrap=True)


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

    ICCIDs come from the arguments, else from --file, else from standard input. The account
    comes from --profile, else from MIOESIM_PHONE_NUMBER, MIOESIM_PASSWORD, MIOESIM_SECRET_KEY
    and MIOESIM_BASE_URL.

    Exit status: 0 all found, 1 some missing or failed, 2 wrong usage, 3 not logged in,
    130 interrupted.

    Args:
        iccids: ICCIDs to query.
        file: A text file with one ICCID per line, or a CSV file.
        column: The CSV column that holds the ICCIDs.
        sandbox: Start a sandbox with this many cards and query it, without account or network.
        output: Write the result to this file; its ending chooses the format.
        format: Format of the result.
        concurrency: How many batches of 100 ICCIDs to ask for at once.
        account: Options of the account.
        debug: Show logs and tracebacks.
    """
    options = QueryOptions(iccids, file, column, sandbox, output, format, concurrency, account)
    return guarded(lambda: query_cards(options), debug=debug)
