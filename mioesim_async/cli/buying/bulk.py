"""Many orders or renewals from a CSV file."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from mioesim_async import errors
from mioesim_async.api.orders.line_checks import Line
from mioesim_async.cli.accounts import client_for, logged_in
from mioesim_async.cli.buying.order import Mode, with_codes
from mioesim_async.cli.buying.order_files import read_lines
from mioesim_async.cli.buying.preview import money, show_plan, total_of
from mioesim_async.cli.buying.results import (
    NOT_SENT,
    Result,
    ResultFile,
    for_account,
    from_error,
    from_journal,
    from_order,
    try_print,
)
from mioesim_async.cli.exit_status import FAILED, OK, UNKNOWN
from mioesim_async.cli.printing import print_json, progress
from mioesim_async.cli.running import say
from mioesim_async.cli.signals import cancel_and_close
from mioesim_async.cli.targets import check_private, open_private, target_of

if TYPE_CHECKING:
    from mioesim_async.api.orders.planning import PlannedLine
    from mioesim_async.client import MioEsimClient

__all__ = ["BulkOptions", "buy_file"]

MAX_SHOWN = 10


@frozen
class BulkOptions:
    """The options of the command line.

    Attributes:
        file: The CSV file.
        kind: The class of its lines.
        max_spend: Most that all lines may cost, as the user wrote it, or None.
        result: The result file, or None for standard output.
        batch: Part of the references that are made; None for the file's name.
        concurrency: Most orders under way at once.
        mode: Whether to ask, to buy, and to show codes.
    """

    file: Path
    kind: type[Line]
    max_spend: str | None
    result: Path | None
    batch: str | None
    concurrency: int
    mode: Mode

    @property
    def limit(self) -> Decimal | None:
        """Most that all lines may cost.

        Raises:
            InvalidRequest: If it is no amount, or missing.
        """
        if self.max_spend is None:
            if self.mode.dry_run:
                return None
            raise errors.InvalidRequest("--file needs --max-spend, the most that may be spent")
        try:
            amount = Decimal(self.max_spend)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not (amount.is_finite() and amount >= 0):
            raise errors.InvalidRequest(
                f"--max-spend must be an amount such as 100 or 99.50, not {self.max_spend!r}"
            )
        return amount


@define
class _Results:
    """Collects the results, and writes each one to the result file."""

    file: ResultFile | None
    done: dict[int, Result] = field(factory=dict)

    def add(self, result: Result) -> None:
        """Write a result at once, so that it isn't lost if the process is killed.

        Raises:
            OSError: If it can't be written; then no later result is written.
        """
        self.done[result.number] = result
        if self.file is not None:
            file, self.file = self.file, None
            file.write(result)
            self.file = file


async def buy_file(options: BulkOptions) -> int:
    """Run ``mioesim order --file`` or ``mioesim renew --file``, and return the exit status.

    Raises:
        MioEsimError: If it ended early and no outcome is unknown.
        OSError: If a file can't be read or written.
    """
    limit, mode = options.limit, options.mode
    mode.check()
    batch = options.file.name if options.batch is None else options.batch
    lines = read_lines(options.file, options.kind, batch)
    _check_result(options)
    slots = max(32, 2 * options.concurrency)
    async with client_for(mode.common, max_in_flight=slots) as client:
        await logged_in(client)
        planned = await client.orders.plan([line for _, line in lines], stock=mode.dry_run)
        for one, (place, _) in zip(planned, lines, strict=True):
            one.number = place
        new = [one for one in planned if one.is_new and one.price is not None]
        _show(options, planned, new, limit)
        if mode.dry_run:
            return _dry_run(planned, mode)
        if new:
            mode.confirm(_question(planned, new, limit))
        with _opened(options) as file:
            tally = _Results(file)
            ended = await _buy(client, options, limit, planned, tally)
            if ended is not None:
                # Purchases that were sent go on; the journal gets their outcomes.
                with suppress(asyncio.CancelledError):
                    await client.aclose()
                await cancel_and_close(client)
            for one in planned:
                if one.number not in tally.done:
                    entry = await client.orders.entry_of(one.line.other_order_id)
                    try:
                        tally.add(from_journal(one, entry, reason="it was not sent"))
                    except OSError as error:
                        ended = _unwritten(error)
    earlier = _spent(planned)
    return _summarised(
        options, sorted(tally.done.values(), key=lambda one: one.number), ended, earlier
    )


async def _buy(
    client: MioEsimClient,
    options: BulkOptions,
    limit: Decimal | None,
    planned: list[PlannedLine],
    tally: _Results,
) -> BaseException | None:
    """Buy what can be bought; return the error that ended it early, or None."""
    try:
        await _place(client, options, limit, planned, tally)
    except errors.MioEsimError as error:
        return error
    except asyncio.CancelledError as error:
        say("interrupted; no further line is sent, waiting for those under way")
        return error
    except OSError as error:
        return _unwritten(error)
    return None


def _unwritten(error: OSError) -> OSError:
    why = error.strerror or type(error).__name__
    say(f"a result can't be written ({why}); no further line is sent")
    return error


async def _place(
    client: MioEsimClient,
    options: BulkOptions,
    limit: Decimal | None,
    planned: list[PlannedLine],
    tally: _Results,
) -> None:
    ready: list[PlannedLine] = []
    for one in planned:
        if one.is_new and one.price is not None:
            ready.append(one)
        elif one.is_first:
            tally.add(from_error(one, one.fault or errors.InvalidRequest("its price is unknown")))
        else:
            tally.add(await _earlier_result(client, one, options.mode))
    left = None if limit is None else max(limit - _spent(planned), Decimal(0))
    stream = client.orders.place_many(
        [one.line for one in ready], max_spend=left, concurrency=options.concurrency
    )
    done, quiet = 0, options.result is None and sys.stdout.isatty()
    with progress("Buying", len(ready), quiet=quiet) as move:
        async with stream:
            async for outcome in stream:
                one = ready[outcome.position]
                if outcome.order is not None:
                    order = await with_codes(client, outcome.order, options.mode)
                    tally.add(from_order(one, order))
                elif outcome.error is not None:
                    tally.add(from_error(one, outcome.error))
                done += 1
                move(done, None)


async def _earlier_result(client: MioEsimClient, one: PlannedLine, mode: Mode) -> Result:
    result = from_journal(one, one.entry, reason="no answer was recorded")
    if result.order is not None:
        result.order = await with_codes(client, result.order, mode)
    elif result.order_num is not None and one.was_placed:
        try:
            return from_order(one, await client.orders.get(result.order_num))
        except errors.MioEsimError as error:
            unread = errors.OrderIncomplete(
                f"order {result.order_num} was placed, but reading it failed ({error})",
                order_num=result.order_num,
            )
            return from_error(one, unread)
    return result


def _spent(planned: Sequence[PlannedLine]) -> Decimal:
    return sum((one.spent for one in planned), Decimal(0))


def _check_result(options: BulkOptions) -> None:
    result = options.result
    if result is None:
        return
    if result.exists() and result.samefile(options.file):
        raise errors.InvalidRequest("--result would overwrite --file; name another")
    # Checked before the question; the file is replaced only after the answer yes.
    check_private(target_of(result, "--result"))


@contextmanager
def _opened(options: BulkOptions) -> Generator[ResultFile | None]:
    show_activation = options.mode.show_activation
    if options.result is None:
        as_json = options.mode.common.json
        yield None if as_json else ResultFile(sys.stdout, show_activation=show_activation)
        return
    file = open_private(target_of(options.result, "--result"))
    try:
        yield ResultFile(file, show_activation=show_activation)
    finally:
        # Each row was flushed, and an error was reported when it happened.
        with suppress(OSError):
            file.close()


def _show(
    options: BulkOptions,
    planned: Sequence[PlannedLine],
    new: Sequence[PlannedLine],
    limit: Decimal | None,
) -> None:
    show_plan([one for one in planned if one.fault is None], stock=options.mode.dry_run)
    before = [one for one in planned if one.was_placed]
    unclear = [one for one in planned if one.is_open]
    refused = [one for one in planned if one.fault is not None and one.is_first]
    unpriced = [one for one in planned if one.is_new and one.price is None]
    notes = (
        (before, "placed before, and not bought again (give another --batch to buy again)"),
        (unclear, "open in the journal, and not sent again (run: mioesim orders reconcile)"),
        (unpriced, "of unknown price, and not sent, since --max-spend could be exceeded"),
        (refused, "that can't be bought"),
    )
    for lines, note in notes:
        if lines:
            say(f"{_counted(len(lines))} {note}: {_numbers(lines)}")
    for one in refused[:MAX_SHOWN]:
        say(f"line {one.number}: {one.fault}")
    earlier = _spent(planned)
    say(
        f"{_counted(len(new))} to buy for {money(total_of(new))}"
        + (f", after {money(earlier)} for lines of earlier runs" if earlier else "")
        + ("" if limit is None else f"; --max-spend is {money(limit)}")
    )


def _question(
    planned: Sequence[PlannedLine], new: Sequence[PlannedLine], limit: Decimal | None
) -> str:
    cost = f"{_counted(len(new))} for {money(total_of(new))}"
    if limit is not None and _spent(planned) + total_of(new) > limit:
        return f"Buy {cost}, until {money(limit)} is spent?"
    return f"Buy {cost}?"


def _dry_run(planned: Sequence[PlannedLine], mode: Mode) -> int:
    say("dry run: nothing was bought")
    if mode.common.json:
        print_json(
            [
                {
                    "line": one.number,
                    "reference": one.line.other_order_id,
                    "price": one.price,
                    "in_stock": one.in_stock,
                    "would_send": one.is_new and one.price is not None,
                    "error": None if one.fault is None else str(one.fault),
                }
                for one in planned
            ]
        )
    return OK if all(one.in_stock is not False and one.fault is None for one in planned) else FAILED


def _summarised(
    options: BulkOptions,
    results: Sequence[Result],
    ended: BaseException | None,
    earlier: Decimal,
) -> int:
    """Say how it ended, and return the exit status."""
    counts = Counter(result.status for result in results)
    is_written = not isinstance(ended, OSError) and try_print(
        lambda: _print_summary(options, results, counts)
    )
    if isinstance(ended, errors.SpendLimitReached):
        left = [one for one in results if one.status == NOT_SENT]
        say(
            f"--max-spend was reached at {money(earlier + ended.spent)}; not sent: {_numbers(left)}"
        )
    say(", ".join(f"{count:,} {status}" for status, count in sorted(counts.items())))
    if options.result is not None:
        say(f"each line's result is in {options.result}")
    unclear = [result for result in results if result.is_unclear]
    if unclear:
        for result in unclear[:MAX_SHOWN]:
            number = f", order {result.order_num}" if result.order_num else ""
            say(f"line {result.number} is {result.status}: reference {result.reference}{number}")
        account = for_account(options.mode.common.profile)
        say(
            "don't repeat these under other references. For what is unknown, run: "
            f"mioesim orders reconcile{account}; for what was placed, run: "
            f"mioesim orders show ORDER{account}"
        )
        return UNKNOWN
    if not is_written and any(result.is_done for result in results):
        say(
            "these were bought. Run the same file again to get all results; nothing is bought twice"
        )
        return UNKNOWN
    if ended is not None and not isinstance(ended, errors.SpendLimitReached):
        raise ended
    return OK if all(result.is_done for result in results) else FAILED


def _print_summary(options: BulkOptions, results: Sequence[Result], counts: Counter[str]) -> None:
    if options.mode.common.json:
        print_json(
            {"counts": dict(counts), "lines": [one.record() for one in results]},
            show_activation=options.mode.show_activation,
        )


def _counted(count: int) -> str:
    return f"{count:,} line{'s' * (count != 1)}"


def _numbers(lines: Sequence[PlannedLine] | Sequence[Result]) -> str:
    more = f" and {len(lines) - MAX_SHOWN:,} more" * (len(lines) > MAX_SHOWN)
    return f"line {', '.join(str(one.number) for one in lines[:MAX_SHOWN])}{more}"
