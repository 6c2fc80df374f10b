"""Results of purchases: printed, as JSON, and in the result file."""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

from attrs import define, field

from mioesim_async import errors
from mioesim_async.cli.buying.preview import money
from mioesim_async.cli.printing import print_lines, printable
from mioesim_async.cli.running import say
from mioesim_async.cli.writers import without_formula
from mioesim_async.journal.entry import UNSETTLED, EntryState, JournalEntry
from mioesim_async.journal.order_record import order_of
from mioesim_async.models.orders import Order

if TYPE_CHECKING:
    from mioesim_async.api.orders.planning import PlannedLine

__all__ = [
    "NOT_SENT",
    "Result",
    "ResultFile",
    "advise",
    "from_error",
    "from_journal",
    "from_order",
    "show",
    "try_print",
]

PLACED = "placed"
PLACED_BEFORE = "placed before"
FAILED = "failed"
UNKNOWN = "unknown"
INCOMPLETE = "placed, not read"
NOT_SENT = "not sent"

STATUSES: Mapping[type[errors.MioEsimError], str] = {
    errors.OutcomeUnknown: UNKNOWN,
    errors.OrderIncomplete: INCOMPLETE,
}
UNCLEAR = frozenset(STATUSES.values())
"""Statuses after which the user has to check before anything is repeated."""

COLUMNS = ("line", "reference", "status", "order_num", "iccids", "price", "error")


@define
class Result:
    """The result of one purchase.

    Attributes:
        number: Its line in the file, from 1; 0 without a file.
        reference: Our reference.
        status: ``PLACED`` or one of the other texts above.
        order_num: The vendor's order number, or None.
        iccids: Its cards that are known.
        price: The expected total price, or None.
        error: Why there is no order, or None.
        order: The order, if it was read.
    """

    number: int
    reference: str
    status: str
    order_num: str | None = None
    iccids: list[str] = field(factory=list)
    price: Decimal | None = None
    error: str | None = None
    order: Order | None = field(default=None, repr=False)

    @property
    def is_done(self) -> bool:
        """Whether there is an order."""
        return self.status in (PLACED, PLACED_BEFORE)

    @property
    def is_unclear(self) -> bool:
        """Whether the user has to check before anything is repeated."""
        return self.status in UNCLEAR

    def record(self) -> dict[str, Any]:
        """Return the result as a dict for ``print_json``."""
        record = {name: getattr(self, name) for name in COLUMNS[1:]} | {"order": self.order}
        return {"line": self.number, **record} if self.number else record


def from_order(planned: PlannedLine, order: Order) -> Result:
    """Return the result of a line that became an order."""
    result = _result(planned, PLACED_BEFORE if planned.was_placed else PLACED)
    result.order_num, result.order = order.order_num, order
    result.iccids = [card.iccid for card in order.cards]
    return result


def from_error(planned: PlannedLine, error: errors.MioEsimError) -> Result:
    """Return the result of a line that failed."""
    result = _result(planned, STATUSES.get(type(error), FAILED))
    result.order_num = getattr(error, "order_num", None)
    result.error = printable(" ".join(str(error).split()))
    return result


def from_journal(planned: PlannedLine, entry: JournalEntry | None, *, reason: str) -> Result:
    """Return the result of a line by its journal entry."""
    if entry is not None and entry.state is EntryState.PLACED:
        result = _result(planned, PLACED_BEFORE if planned.was_placed else PLACED)
        result.order_num = entry.order_num
        if entry.order is not None:
            result.order = order_of(entry.order)
            result.iccids = [card.iccid for card in result.order.cards]
        return result
    is_open = entry is not None and entry.state in UNSETTLED
    result = _result(planned, UNKNOWN if is_open else NOT_SENT)
    result.error = printable((entry and entry.reason) or reason)
    return result


def _result(planned: PlannedLine, status: str) -> Result:
    price = planned.price if planned.is_first else planned.spent
    return Result(planned.number, planned.line.other_order_id, status, price=price)


def show(result: Result, *, show_activation: bool) -> None:
    """Print a result as text."""
    order = result.order
    entries: list[tuple[str, object]] = [
        ("Order", result.order_num),
        ("Reference", result.reference),
        ("Result", result.status),
        ("Status", None if order is None or order.status is None else order.status.name),
        ("Renews order", None if order is None else order.main_order_num),
        ("Price", None if result.price is None else money(result.price)),
        *(("Card", iccid) for iccid in result.iccids),
    ]
    if show_activation and order is not None:
        entries += [
            ("Activation", f"{card.iccid} {card.activation or 'none'}") for card in order.cards
        ]
    print_lines(entries)


def for_account(profile: str | None) -> str:
    """Return the option that makes another command use the same account."""
    return f" --profile {shlex.quote(profile)}" if profile else ""


def advise(result: Result, profile: str | None) -> None:
    """Say what to do next about a purchase that must not be repeated yet."""
    account = for_account(profile)
    if result.status == INCOMPLETE:
        say(
            f"it was bought; don't repeat it. To read it, run: mioesim orders show "
            f"{result.order_num}{account}"
        )
    elif result.status == UNKNOWN:
        say(
            f"it may have been bought; don't repeat it under another reference. Its reference is "
            f"{result.reference}. To find out, run: mioesim orders reconcile{account}"
        )


def try_print(tell: Callable[[], object]) -> bool:
    """Print a result; if that fails, as on a full disk, say so and return False."""
    try:
        tell()
        sys.stdout.flush()
    except OSError as error:
        say(f"the result can't be written: {error.strerror or type(error).__name__}")
        return False
    return True


class ResultFile:
    """One row for each line, as CSV for spreadsheets; each row is flushed."""

    def __init__(self, file: IO[str], *, show_activation: bool) -> None:
        """Write the header."""
        self._file = file
        self._show_activation = show_activation
        self._csv = csv.writer(file, lineterminator="\n")
        self._csv.writerow([*COLUMNS, *["activation"] * show_activation])
        file.flush()

    def write(self, result: Result) -> None:
        """Write one row."""
        row = [
            result.number,
            without_formula(result.reference),
            result.status,
            without_formula(printable(result.order_num)),
            _cell(result.iccids),
            None if result.price is None else money(result.price).replace(",", ""),
            without_formula(result.error),
        ]
        if self._show_activation:
            codes = [card.activation for card in result.order.cards] if result.order else []
            row.append(without_formula(printable(" ".join(str(code) for code in codes if code))))
        self._csv.writerow(row)
        self._file.flush()


def _cell(iccids: list[str]) -> str:
    # A spreadsheet would read a single ICCID as a number.
    return f'="{iccids[0]}"' if len(iccids) == 1 and iccids[0].isdigit() else " ".join(iccids)
