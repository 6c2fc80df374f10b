"""``mioesim query``."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from attrs import Factory, define, frozen
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mioesim_async import errors
from mioesim_async.cli.accounts import ACCOUNT, AccountOptions, client_for, logged_in
from mioesim_async.cli.examples import examples
from mioesim_async.cli.exit_status import ENDED_EARLY, FAILED, INTERRUPTED, OK, USAGE, EndedEarly
from mioesim_async.cli.iccid_sources import Source, Wanted, open_source
from mioesim_async.cli.output_files import OutputFile, refuse_one_target, refuse_same
from mioesim_async.cli.printing import amount, printable, progress
from mioesim_async.cli.resume import READERS, Earlier, drop_unasked, leave_out, take_over
from mioesim_async.cli.running import (
    AboveZero,
    Flag,
    NotNegative,
    Positive,
    app,
    guarded,
    one_line,
    say,
    status_of,
)
from mioesim_async.cli.targets import target_of
from mioesim_async.cli.writers import WRITERS, Layout, Writer
from mioesim_async.models.cards import CardOutcome
from mioesim_async.transport.failures import meaning_of

if TYPE_CHECKING:
    from mioesim_async.api.sweep import CardStream
    from mioesim_async.client import MioEsimClient

__all__ = ["Format", "QueryOptions", "query_cards"]

Format = Literal["table", "csv", "json", "jsonl", "parquet"]
ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".table": "table",
    ".txt": "table",
}
ROUNDED = "0000"
FEWEST_ROUNDED = 5
TELLING_ROWS = 100
"""So many ICCIDs are looked at before it is told that most seem to be rounded."""


@Parameter(name="*")
@frozen
class SweepOptions:
    """How fast the cards are asked for, and for how long the host may be down.

    Attributes:
        concurrency: How many batches of 100 are under way at once.
        max_in_flight: How many requests may be under way at once.
        rate_limit: Most requests a second.
        max_outage: Seconds that the host may be down before the command gives up.
        ordered: Write the cards in the order of the input.
    """

    concurrency: Annotated[int, Positive] = 8
    max_in_flight: Annotated[int | None, Positive] = None
    rate_limit: Annotated[float | None, AboveZero] = None
    max_outage: Annotated[float, NotNegative] = 120.0
    ordered: Annotated[bool, Flag] = False

    @property
    def of_client(self) -> dict[str, Any]:
        """The client's arguments."""
        slots = self.max_in_flight or max(32, 2 * self.concurrency)
        return {"max_in_flight": slots, "rate_limit": self.rate_limit}


SWEEP = SweepOptions()
"""The options, none of them given."""


@frozen
class QueryOptions:
    """What was asked for on the command line."""

    wanted: Wanted
    sandbox: int | None
    output: Path | None
    format: Format | None
    plain: bool
    sweep: SweepOptions
    resume: bool
    allow_empty: bool
    quiet: bool
    summary: Path | None
    account: AccountOptions

    @property
    def writes(self) -> Format:
        """The format: as named, or as the output file's ending says, or a table."""
        if self.format is not None:
            return self.format
        if self.output is None or self.output == Path("-"):
            return "table"
        ending = self.output.suffix.lower()
        if ending not in ENDINGS:
            raise errors.InvalidRequest(
                f"{self.output.name} ends in none of {', '.join(ENDINGS)}; name the --format"
            )
        return ENDINGS[ending]

    @property
    def target(self) -> Path | None:
        """The file to write, or None for standard output."""
        if self.output is None or self.output == Path("-"):
            return None
        return target_of(self.output, "--output")

    @property
    def summary_target(self) -> Path | None:
        """The file for the counts, or None."""
        return None if self.summary is None else target_of(self.summary, "--summary")

    def check(self) -> None:
        """Refuse wrong usage, before anything is opened.

        Raises:
            InvalidRequest: If the options don't fit together.
        """
        writes, target = self.writes, self.target
        if self.sandbox is not None and self.account != ACCOUNT:
            raise errors.InvalidRequest(
                "--sandbox has an account of its own: leave --profile, --proxy, --timeout and "
                "--allow-insecure-http out, or --sandbox"
            )
        if self.resume and (target is None or writes not in READERS):
            raise errors.InvalidRequest("--resume needs -o FILE.csv or -o FILE.jsonl")
        if writes == "parquet" and target is None:
            raise errors.InvalidRequest("a Parquet file needs its name: -o FILE.parquet")
        summary = self.summary_target
        if summary is not None and target is not None:
            refuse_one_target(target, summary)
        file = None if self.wanted.file == Path("-") else self.wanted.file
        for option, written in (("--output", target), ("--summary", summary)):
            if written is not None and not self.wanted.iccids:
                refuse_same(written, file, option)
        if self.sandbox is not None and self.wanted.column is not None and not self.wanted.file:
            raise errors.InvalidRequest("--column needs a CSV file or standard input")


@define
class Totals:
    """What the cards add up to."""

    found: int = 0
    missing: int = 0
    failed: int = 0
    statuses: Counter[str] = Factory(Counter)
    used_mb: float = 0.0
    remaining_mb: float = 0.0
    rounded: int = 0
    first_error: errors.MioEsimError | None = None
    _status: str | None = None
    _name: str = "(none)"

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.found + self.missing + self.failed

    def take_over(self, earlier: Earlier) -> None:
        """Count the rows of an earlier run."""
        self.found += earlier.found
        self.missing += earlier.rows - earlier.found
        self.statuses += earlier.statuses
        self.used_mb += earlier.used_mb
        self.remaining_mb += earlier.remaining_mb

    def drop(self, earlier: Earlier) -> None:
        """Count rows of an earlier run no longer."""
        self.found -= earlier.found
        self.missing -= earlier.rows - earlier.found
        self.statuses -= earlier.statuses
        self.used_mb -= earlier.used_mb
        self.remaining_mb -= earlier.remaining_mb

    def add(self, outcome: CardOutcome) -> None:
        """Count one outcome."""
        card = outcome.card
        self.rounded += outcome.iccid.endswith(ROUNDED)
        if card is None:
            self.failed += outcome.error is not None
            self.missing += outcome.error is None
            self.first_error = self.first_error or outcome.error
            return
        self.found += 1
        if card.dp_status is not self._status:
            self._status = card.dp_status
            self._name = str(self._status or "(none)")
        # By plain text, since an enum's members hash slowly.
        self.statuses[self._name] += 1
        self.used_mb += card.used_mb or 0.0
        self.remaining_mb += card.remaining_mb or 0.0


@define
class Run:
    """One run of the command: what it reads, what it writes, and what it has counted so far."""

    options: QueryOptions
    source: Source
    client: MioEsimClient
    stream: CardStream
    output: OutputFile | None
    summary: OutputFile | None
    earlier: Earlier
    started: float = Factory(time.monotonic)
    started_at: datetime = Factory(lambda: datetime.now(UTC))
    totals: Totals = Factory(Totals)
    # A progress bar takes its place meanwhile.
    _stdout: IO[str] = Factory(lambda: sys.stdout)
    _file: IO[Any] | None = None
    _writer: Writer | None = None

    @property
    def layout(self) -> Layout:
        """How the rows are laid out."""
        return Layout(
            plain=self.options.plain,
            columns=tuple(self.source.columns),
            has_header=not self.earlier.rows,
            to_file=self.output is not None,
        )

    @property
    def writer(self) -> Writer:
        """What writes the rows; a file is opened with the first of them."""
        if self._writer is None:
            writes = self.options.writes
            if self.output is None:
                self._file = self._stdout
            elif self._file is None:
                self._file = self.output.begin(binary=writes == "parquet")
            self._writer = WRITERS[writes](self._file, self.layout)
        return self._writer

    async def take_over(self) -> None:
        """Begin with what an earlier run wrote."""
        if self.output is not None:
            self._file = await asyncio.to_thread(
                take_over, self.output, self.options.writes, self.layout, self.earlier
            )
            self.totals.take_over(self.earlier)

    def flush(self) -> None:
        """Bring what was written to the file."""
        if self._file is not None and self.options.writes != "parquet":
            self._file.flush()

    async def finish(self) -> None:
        """Write what comes last, drop what the input doesn't have, and give the file its name."""
        self.writer.close()
        self.flush()
        if self.output is None:
            return
        if self.earlier.rows > self.earlier.asked:
            self._file, dropped = await asyncio.to_thread(
                drop_unasked, self.output, self.options.writes, self.layout, self.earlier
            )
            self.totals.drop(dropped)
            self.earlier.rows -= dropped.rows
        self.output.commit()

    def abandon(self) -> Path | None:
        """Leave what was written; return where it is, or None if that is nowhere."""
        is_readable = self.options.writes != "parquet"
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()
                self.flush()
        return None if self.output is None else self.output.close(keep=is_readable)


async def query_cards(options: QueryOptions) -> int:
    """Run the command and return its exit status.

    Raises:
        MioEsimError: If the sweep ended early.
        OSError: If a file can't be read or written.
    """
    options.check()
    async with AsyncExitStack() as stack:
        named = options.wanted.iccids or options.wanted.file
        arguments = options.sweep.of_client
        if options.sandbox is not None:
            # A server takes longer to import than the rest of the command.
            from mioesim_async.sandbox import Sandbox

            sandbox = Sandbox(options.sandbox, record=False)
            source = (
                await open_source(options.wanted)
                if named
                else Source(sandbox.iccids, len(sandbox.iccids))
            )
            await stack.enter_async_context(sandbox)
            client = await stack.enter_async_context(sandbox.client(**arguments))
        else:
            source = await open_source(options.wanted)
            client = await stack.enter_async_context(
                client_for(options.account, **arguments, order_journal=None)
            )
        stack.callback(source.close)
        earlier, sweep = Earlier(), options.sweep
        items = leave_out(source, earlier) if options.resume else source.items
        # Entering it checks what was given, before the login sends a byte.
        stream = await stack.enter_async_context(
            client.cards.query_many(
                items,
                concurrency=sweep.concurrency,
                ordered=sweep.ordered,
                max_outage=sweep.max_outage,
            )
        )
        output, summary = [
            None if target is None else _claimed(target, stack)
            for target in (options.target, options.summary_target)
        ]
        run = Run(options, source, client, stream, output, summary, earlier)
        try:
            await logged_in(client)
            if options.resume:
                await run.take_over()
        except asyncio.CancelledError:
            say("interrupted before anything was asked")
            _write_summary(run, _summary(run, "interrupted", INTERRUPTED))
            raise
        except (errors.MioEsimError, OSError) as error:
            told = _summary(run, "ended early", status_of(error))
            _write_summary(run, told | {"first_error": one_line(error)})
            raise
        return await _sweep(run)


def _claimed(target: Path, stack: AsyncExitStack) -> OutputFile:
    """Claim a file, so that one that can't be written is refused before anything is asked."""
    output = OutputFile(target)
    output.claim()
    stack.callback(output.close)
    return output


async def _sweep(run: Run) -> int:
    """Write a row for each outcome, and tell what they add up to."""
    ended, part, status = "ended early", None, ENDED_EARLY
    try:
        async with run.stream:
            await _copy(run)
        asked = run.totals.rows - run.earlier.rows + run.earlier.asked
        if not asked and not run.options.allow_empty:
            raise errors.InvalidRequest(
                "there are no ICCIDs in the input, so nothing was asked or written; "
                "--allow-empty takes that as it is"
            )
        await run.finish()
        totals = run.totals
        ended, status = "", OK if totals.found == totals.rows else FAILED
    except asyncio.CancelledError:
        ended, status = "interrupted", INTERRUPTED
        raise
    except errors.MioEsimError as error:
        status = meaning_of(error).exit_status
        if status == FAILED:
            status = ENDED_EARLY
        raise EndedEarly(status, one_line(error)) from None
    except OSError as error:
        status = status_of(error)
        if error.filename is None and run.output is not None:
            # What fails to write a file doesn't name it.
            error.filename = str(run.output.part)
        raise
    finally:
        if ended:
            part = run.abandon()
        _tell(run, ended, part, status)
    return status


async def _copy(run: Run) -> None:
    options, totals, source = run.options, run.totals, run.source
    mixed = options.writes != "table" and run.output is None and sys.stdout.isatty()
    total = None if source.total is None else max(0, source.total - run.earlier.rows)
    count = 0
    with progress("Querying cards", total, quiet=mixed or options.quiet) as move:
        write, has_others = None, bool(source.columns)
        async for outcome in run.stream:
            if write is None:
                write = run.writer.write
            write(outcome, source.others(outcome.iccid) if has_others else ())
            totals.add(outcome)
            count += 1
            if count % 100 == 0:
                run.flush()
                move(count, None)
            if count == TELLING_ROWS:
                _doubt(totals, count)
        move(count, count)
    if count < TELLING_ROWS:
        _doubt(totals, count)


def _doubt(totals: Totals, count: int) -> None:
    """Tell where most ICCIDs look as if a spreadsheet had rounded them."""
    if count >= FEWEST_ROUNDED and 2 * totals.rounded > count:
        say(
            f"{totals.rounded} of {count} ICCIDs end with {ROUNDED}: a spreadsheet may have "
            "rounded them; export the column as text"
        )


def _tell(run: Run, ended: str, part: Path | None, status: int) -> None:
    """Tell what the rows add up to: on the terminal, and in the file of ``--summary``."""
    options = run.options
    summary = _summary(run, ended, status)
    _write_summary(run, summary)
    if not options.quiet:
        on_stdout = options.writes == "table" and run.output is None
        _print_summary(Console(stderr=not on_stdout), run, ended, summary)
    if part is not None:
        say(
            f"what was done is in {part}, and {options.output} was not touched"
            + ("; the same command with --resume goes on from there" * (options.writes in READERS))
        )


def _write_summary(run: Run, summary: dict[str, Any]) -> None:
    if run.summary is not None:
        run.summary.begin().write(json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
        run.summary.commit()


def _summary(run: Run, ended: str, status: int) -> dict[str, Any]:
    totals, calls = run.totals, run.client.stats()
    return {
        "ended": ended or "complete",
        "exit_status": status,
        "cards": totals.rows,
        "found": totals.found,
        "missing": totals.missing,
        "failed": totals.failed,
        "taken_over": run.earlier.rows,
        "statuses": {printable(name): count for name, count in sorted(totals.statuses.items())},
        "used_mb": totals.used_mb,
        "remaining_mb": totals.remaining_mb,
        "first_error": None if totals.first_error is None else printable(str(totals.first_error)),
        "requests": calls.requests,
        "logins": calls.logins,
        "connections": calls.connections,
        "started_at": run.started_at.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - run.started, 2),
        "output": None if run.output is None else str(run.output.target),
    }


def _print_summary(console: Console, run: Run, ended: str, summary: dict[str, Any]) -> None:
    totals = run.totals
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    rows: list[tuple[str, str]] = [
        (f"Cards {status}", f"{count:,}") for status, count in summary["statuses"].items()
    ]
    rows += [
        ("Cards found", f"{totals.found:,}"),
        ("Missing", f"{totals.missing:,}"),
        ("Failed", f"{totals.failed:,}"),
        ("Data used", amount(totals.used_mb) or ""),
        ("Data remaining", amount(totals.remaining_mb) or ""),
        ("Requests", f"{summary['requests']:,}"),
        ("Logins", f"{summary['logins']:,}"),
        ("Connections", f"{summary['connections']:,}"),
        ("Time", f"{summary['seconds']:,.2f} s"),
    ]
    if run.earlier.rows:
        rows.insert(0, ("Taken over", f"{run.earlier.rows:,}"))
    for row in rows:
        table.add_row(*[Text(cell) for cell in row])
    if ended:
        console.print(f"{ended.capitalize()} after {totals.rows:,} cards.", style="bold")
    console.print(table)
    if summary["first_error"] is not None:
        first = f"First error: {summary['first_error']}"
        console.print(first, markup=False, highlight=False, soft_wrap=True)


@app.command(help_epilogue=examples("query"))
def query(
    *iccids: str,
    file: Annotated[
        Path | None, Parameter(name=["--file", "-f"], allow_leading_hyphen=True)
    ] = None,
    column: Annotated[str | None, Parameter(name=["--column", "-c"])] = None,
    encoding: str | None = None,
    keep_columns: Annotated[bool, Flag] = False,
    allow_empty: Annotated[bool, Flag] = False,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], allow_leading_hyphen=True)
    ] = None,
    format: Format | None = None,  # noqa: A002 - it is the option's name
    json: Annotated[bool, Flag] = False,
    plain: Annotated[bool, Flag] = False,
    resume: Annotated[bool, Flag] = False,
    summary: Path | None = None,
    quiet: Annotated[bool, Flag] = False,
    sweep: SweepOptions = SWEEP,
    sandbox: Annotated[int | None, Positive] = None,
    account: AccountOptions = ACCOUNT,
    debug: Annotated[bool, Flag] = False,
) -> int:
    """Query status and usage of any number of cards.

    Takes ICCIDs from the arguments, else from --file, else from standard input. The account
    comes from --profile, else from MIOESIM_PHONE_NUMBER, MIOESIM_PASSWORD, MIOESIM_SECRET_KEY
    and MIOESIM_BASE_URL.

    A file is written as FILE.part, and gets its name when it is whole; --resume goes on where
    an earlier run was interrupted.

    Exit status: 0 all found, 1 some missing or failed, 2 wrong usage or no ICCIDs, 3 not logged
    in, 5 the host was not reached or the run ended early, 130 interrupted.

    Args:
        iccids: ICCIDs to query.
        file: A text file with one ICCID per line, or a CSV file; also a named pipe.
        column: The CSV column that holds the ICCIDs.
        encoding: The file's encoding, such as utf-16-le or cp1252; UTF-8 if it is not named. A
            mark at the beginning counts more.
        keep_columns: Write the other columns of the CSV file beside the result.
        allow_empty: Take an input without ICCIDs as it is, and write a file without rows.
        output: Write the result to a file; its ending chooses the format.
        format: How to write the result.
        json: Write JSON, as --format json does.
        plain: Write CSV for programs, without ="..." around ICCIDs.
        resume: Take over rows that an earlier run wrote in the last six hours, and ask for the
            rest.
        summary: Write the counts to a JSON file.
        quiet: Show neither progress nor summary.
        sweep: How fast, and for how long the host may be down.
        sandbox: Start a sandbox with that many cards and query it; no account, no network.
        account: Options of the account.
        debug: Show logs and tracebacks.
    """
    if json and format not in (None, "json"):
        say(f"give --json or --format {format}, not both")
        return USAGE
    options = QueryOptions(
        Wanted(iccids, file, column, encoding, keep_columns),
        sandbox,
        output,
        "json" if json else format,
        plain,
        sweep,
        resume,
        allow_empty,
        quiet,
        summary,
        account,
    )
    return guarded(lambda: query_cards(options), debug=debug)
