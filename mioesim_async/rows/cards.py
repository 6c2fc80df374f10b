"""Reads the vendor's rows about cards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from operator import attrgetter
from typing import Any

from attrs import Factory, define, evolve

from mioesim_async.errors import ProtocolError
from mioesim_async.models.activation import ActivationCode, trimmed
from mioesim_async.models.cards import CardDetail, CardStatus, DpStatus, PastPlan
from mioesim_async.models.iccid import iccid_or_none
from mioesim_async.rows import scalars
from mioesim_async.rows.compiled import ShapeReaders
from mioesim_async.rows.layout import (
    LAYOUTS,
    MAX_FIELDS,
    Layout,
    Rule,
    Spellings,
    is_wrapper,
    normalised,
    read_row,
    reader_of,
    report_once,
)
from mioesim_async.rows.subject import iccid_in, names_another
from mioesim_async.slices import Steps
from mioesim_async.wire.depth import cut
from mioesim_async.wire.dialect import setting
from mioesim_async.wire.envelope import Envelope

__all__ = [
    "BatchReply",
    "detail_row",
    "read_activation",
    "read_any_batch",
    "read_clean_batch",
    "read_detail",
]


MAX_DEPTH = 4
iccid_of = attrgetter("iccid")
CONTRADICTORY_ROW = "a row stands under the ICCID of one card and names another card"

MAX_ROWS = 100
"""Rows that any reply may have: a host may send cards that nobody asked for."""

ROWS_PER_CARD = 10
"""More rows for each card that was asked for: a card may have several plans."""


def _iccid(value: object) -> str | None:
    # A number may have lost its last digits. The caller sets the ICCID that it asked for.
    return value or None if isinstance(value, str) else None


@scalars.cached
def _dp_status(value: object) -> DpStatus | None:
    raw = scalars.text(value)
    return None if raw is None else DpStatus(raw)


WHOLE_CODE_FIELDS = ("code", "lpa", "lpastring")
"""Fields that may hold a whole activation code, the preferred one first (observed)."""

ACTIVATION_FIELDS = (*WHOLE_CODE_FIELDS, "smdpaddress", "activationcode")
scalars.RETURNED_UNCHANGED[_iccid] = str


def read_activation(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Build the activation code from a whole LPA string, or from an address and a matching id.

    The first that can be read is used: ``code``, ``lpa``, ``lpaString``, a whole LPA string in
    ``smdpAddress`` or ``activationCode``, and last the two as address and matching id. An LPA
    string with an empty matching id gets the one in ``activationCode``; without one, it is used
    only if nothing has a matching id. The used fields leave ``extra``, and the others too if all
    of them agree with the code.
    """
    keys = {normalised(key): key for key in extra}
    found = {name: extra[keys[name]] for name in ACTIVATION_FIELDS if name in keys}
    texts = {name: trimmed(text) for name, text in found.items() if isinstance(text, str)}
    taken: tuple[tuple[str, ...], ActivationCode] | None = None
    for names, text in _candidates(texts):
        try:
            activation = ActivationCode.parse(text)
        except ValueError:
            report_once("card", "activation code", "can't be read")
            continue
        if activation.matching_id:
            taken = names, activation
            break
        taken = taken or (names, activation)
    if taken is None:
        return
    names, activation = taken
    values["activation"] = activation
    others = [name for name in found if name not in names]
    if others and not all(
        _agrees(activation, name, texts[name]) if name in texts else found[name] is None
        for name in others
    ):
        report_once("card", "a second activation code", "differs from the one that was used")
        others = []
    for name in (*names, *others):
        del extra[keys[name]]


def _candidates(texts: dict[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield texts that may be activation codes, the best first, each with the fields it is from."""
    address, matching = texts.get("smdpaddress"), texts.get("activationcode")
    half = matching if matching and "$" not in matching else None
    for name, text in texts.items():
        if text and (name in WHOLE_CODE_FIELDS or "$" in text):
            if half and (completed := _completed(text, half)):
                yield (name, "activationcode"), completed
            yield (name,), text
    if address and matching is not None and "$" not in address + matching:
        yield ("smdpaddress", "activationcode"), f"1${address}${matching}"


def _completed(whole: str, matching: str) -> str | None:
    """Put a matching id into a code whose own is empty; None if it isn't."""
    parts = whole.split("$")
    if len(parts) < 3 or trimmed(parts[2]):
        return None
    return "$".join([*parts[:2], matching, *parts[3:]])


def _agrees(activation: ActivationCode, name: str, text: str) -> bool:
    """Tell whether a field is empty or agrees with the code."""
    if not text:
        return True
    if name in WHOLE_CODE_FIELDS or "$" in text:
        with suppress(ValueError):
            return _comparable(ActivationCode.parse(text)) == _comparable(activation)
        return False
    if name == "activationcode":
        return text == activation.matching_id
    return text.lower() == activation.smdp_address.lower()


def _comparable(code: ActivationCode) -> ActivationCode:
    # Host names ignore case.
    return evolve(code, smdp_address=code.smdp_address.lower())


CARD_FIELDS = {
    "iccid": Rule(("iccid",), _iccid),
    "dp_status": Rule(("dpStatus",), _dp_status, strict=True),
    "used_mb": Rule(("usedMB",), scalars.number, strict=True),
    "remaining_mb": Rule(
        ("remainingMB", "remainMB", "surplusMB", "leftMB", "remainingData", "remainData",
         "surplusData", "remainFlow", "remainingFlow", "surplusFlow", "remaining"),
        scalars.megabytes_or_number,
    ),
    # "data" is the plan's size, such as "6GB". Its name has no unit, so a bare number is refused.
    "total_mb": Rule(
        ("totalMB",), scalars.megabytes_or_number, other_readers={"data": scalars.megabytes}
    ),
    "starts_at": Rule(("startDate", "startTime", "beginDate"), scalars.time_or_day_start),
    "ends_at": Rule(("endDate", "endTime"), scalars.time_or_day_end),
    "order_num": Rule(("orderNum",), scalars.text),
    "sku_id": Rule(("skuId",), scalars.integer),
}  # fmt: skip

ONLY_CARD_KEYS = frozenset(
    normalised(name)
    for field in ("dp_status", "used_mb", "remaining_mb", "total_mb")
    for name, _ in CARD_FIELDS[field].readers()
    if name not in ("data", "remaining")
)
"""Normalised names of fields that only cards have."""

LAYOUTS.update(
    {
        CardStatus: Layout(CARD_FIELDS),
        CardDetail: Layout(CARD_FIELDS, read_activation),
        PastPlan: Layout(
            {
                "order_num": Rule(("orderNum",), scalars.text),
                "display": Rule(("display", "skuName", "name"), scalars.text),
                "status": Rule(("status",), scalars.integer),
                "starts_at": Rule(("startDate", "beginDate"), scalars.time_or_day_start),
                "ends_at": Rule(("endDate",), scalars.time_or_day_end),
            }
        ),
    }
)


usual_rows = ShapeReaders(CardStatus, Spellings(CARD_FIELDS))
"""Reads rows with only usual fields and values fast."""


@define
class BatchReply:
    """What one reply to a batch query says about the cards that were asked for.

    Attributes:
        cards: Cards by ICCID, in the order in which they were asked for.
        bad: Errors of cards whose rows can't be used, by ICCID.
        without_iccid: Count of rows without a readable ICCID.
        unasked: Count of rows about cards that nobody asked for.
    """

    cards: dict[str, CardStatus] = Factory(dict)
    bad: dict[str, ProtocolError] = Factory(dict)
    without_iccid: int = 0
    unasked: int = 0


RowsWithIccids = list[tuple[Any, Any]]
"""Pairs of a row's ICCID, as it came or None, and the row."""


def read_clean_batch(envelope: Envelope, asked: Mapping[str, object]) -> BatchReply | None:
    """Read a reply with only usual rows fast; None if ``read_any_batch`` must read the reply.

    The data must be a list with one usual row for each card, and only cards that were asked for.
    """
    data = envelope.data
    if not isinstance(data, list) or len(data) > MAX_ROWS + ROWS_PER_CARD * len(asked):
        return None
    if (cards := usual_rows.read(data)) is None:
        return None
    iccids = [*map(iccid_of, cards)]
    if iccids == [*asked]:
        # The strings of ``asked`` already have their hashes, so this is faster.
        return BatchReply(dict(zip(asked, cards, strict=True)))
    named = dict(zip(iccids, cards, strict=True))
    usual = len(named) == len(data) and named.keys() <= asked.keys()
    return BatchReply(_in_order(named, asked)) if usual else None


def read_any_batch(envelope: Envelope, asked: Mapping[str, object]) -> Steps[BatchReply]:
    """Read a reply of any form, row by row.

    Raises:
        ProtocolError: If the data can't hold cards, or has far more rows than cards that were
            asked for.
    """
    most = MAX_ROWS + ROWS_PER_CARD * len(asked)
    rows = yield from _rows_with_iccids(envelope.data, most)
    if _has_rounded_iccid(rows):
        yield
        rows = yield from _rows_with_iccids((yield from envelope.exact_data_in_steps()), most)
    reader = _BatchReader(asked)
    for raw, row in rows:
        reader.add(raw, row)
        yield
    return reader.reply()


class _BatchReader:
    """Assigns the rows of one reply to the cards that were asked for."""

    def __init__(self, asked: Mapping[str, object]) -> None:
        self._asked = asked
        self._read = reader_of(CardStatus)
        self._reply = BatchReply()
        self._unread: dict[str, list[Any]] = {}
        # A contradictory row stands under the ICCID of one card and names another card.
        self._contradictory: set[str] = set()
        self._named_by_contradictory: set[str | None] = set()

    def add(self, raw: Any, row: Any) -> None:
        """Add one row; ``raw`` is its ICCID as it came."""
        reply = self._reply
        iccid = raw if type(raw) is str and raw in self._asked else iccid_or_none(raw)
        if iccid is None:
            reply.without_iccid += 1
        elif isinstance(row, dict) and names_another(row, iccid):
            self._contradictory.add(iccid)
            self._named_by_contradictory.add(iccid_or_none(iccid_in(row)))
        elif iccid not in self._asked:
            reply.unasked += 1
        elif (first := reply.cards.get(iccid)) is not None:
            # A card with several plans has several rows: the first fills the card, and the others
            # are kept in its extra.
            first.extra.setdefault("more_rows", []).append(cut(row))
        else:
            try:
                card: CardStatus = self._read(row)
            except ProtocolError as error:
                reply.bad.setdefault(iccid, error)
                self._unread.setdefault(iccid, []).append(cut(row))
            else:
                card.iccid = iccid
                reply.cards[iccid] = card

    def reply(self) -> BatchReply:
        """Return the reply, when all rows were added."""
        reply, asked = self._reply, self._asked
        for iccid in reply.cards.keys() & reply.bad.keys():
            del reply.bad[iccid]
            reply.cards[iccid].extra.setdefault("more_rows", []).extend(self._unread[iccid])
        # A contradictory row may be about either card, so neither of them is read from it or called
        # missing. The card that it names may have a row of its own.
        unclear = self._contradictory | (self._named_by_contradictory - reply.cards.keys())
        for iccid in [iccid for iccid in asked if iccid in unclear]:
            reply.cards.pop(iccid, None)
            reply.bad[iccid] = ProtocolError(CONTRADICTORY_ROW)
        reply.cards = _in_order(reply.cards, asked)
        return reply


def _in_order(
    cards: Mapping[str, CardStatus], asked: Mapping[str, object]
) -> dict[str, CardStatus]:
    return {iccid: cards[iccid] for iccid in asked if iccid in cards}


def read_detail(envelope: Envelope, iccid: str) -> Steps[CardDetail | None]:
    """Read the one card that was asked for; None if the reply has no card.

    Raises:
        ProtocolError: If the reply is about another card, or can't be read.
    """
    row = yield from detail_row(envelope, iccid)
    if row is None:
        return None
    card = read_row(row, CardDetail)
    card.iccid = iccid
    return card


def detail_row(envelope: Envelope, iccid: str) -> Steps[Any]:
    """Return the one row about a card; None if the reply has no row.

    If ICCIDs came as numbers that lost digits, the reply is parsed again with all digits.

    Raises:
        ProtocolError: If the reply is about another card.
    """
    data = envelope.data
    if isinstance(data, dict) and data.get("iccid") == iccid:
        return data
    rows = yield from _rows_with_iccids(data, MAX_ROWS)
    if _has_rounded_iccid(rows):
        yield
        data = yield from envelope.exact_data_in_steps()
        rows = yield from _rows_with_iccids(data, MAX_ROWS)
    return _only_row(data, rows, iccid)


def _has_rounded_iccid(rows: RowsWithIccids) -> bool:
    # orjson turns integers over 64 bits into floats.
    return any(
        isinstance(iccid, float) or (isinstance(row, dict) and isinstance(iccid_in(row), float))
        for iccid, row in rows
    )


def _only_row(data: Any, rows: RowsWithIccids, iccid: str) -> Any:
    """Return the one row about a card, or None; raise if the rows are about other cards."""
    for raw, row in rows:
        if iccid_or_none(raw) == iccid:
            if isinstance(row, dict) and names_another(row, iccid):
                raise ProtocolError(CONTRADICTORY_ROW)
            return row
    if any(raw is not None for raw, _ in rows):
        raise ProtocolError("the reply is about another card than the one that was asked for")
    if isinstance(data, dict) and not is_wrapper(data):
        return data or None
    if len(rows) > 1:
        raise ProtocolError("the reply has several rows, and none of them has an ICCID")
    return rows[0][1] if rows else None


def _rows_with_iccids(data: Any, most: int) -> Steps[RowsWithIccids]:
    """Return at most ``most`` rows of a reply, each with its ICCID."""
    rows: RowsWithIccids = []
    if data is not None:
        if not isinstance(data, list | dict):
            raise ProtocolError(f"expected cards, got {type(data).__name__}")
        yield from _add_rows(data, rows, MAX_DEPTH, most)
    return rows


def _is_card(data: Any) -> bool:
    """Tell whether a value is an object with a field that only cards have."""
    return isinstance(data, dict) and any(normalised(key) in ONLY_CARD_KEYS for key in data)


def _add_rows(data: Any, rows: RowsWithIccids, depth: int, most: int) -> Steps[None]:
    """Add the rows in a value, down to ``depth`` levels, each with its ICCID or None.

    An object in a list is a row. Any other object is a row if it has an ICCID, stands under one,
    or has a field that only cards have.
    """
    _check_count(len(rows) + len(data) if isinstance(data, list) else len(rows), most)
    yield
    if isinstance(data, list):
        # A bare ICCID in a list is not a row: it has no status.
        items = [item for item in data if item is not None and iccid_or_none(item) is None]
        rows += [(iccid_in(item) if isinstance(item, dict) else None, item) for item in items]
        return
    if (iccid := iccid_in(data)) is not None:
        rows.append((iccid, data))
        return
    _check_count(len(data), most + MAX_FIELDS)
    keyed = [key for key in data if iccid_or_none(key) is not None]
    for key in keyed:
        value = data[key]
        several = value if isinstance(value, list) else [value]
        _check_count(len(rows) + len(several), most)
        rows.extend((key, row) for row in several if row is not None)
        yield
    if keyed:
        rows.extend((None, row) for key, row in data.items() if key not in keyed and _is_card(row))
        return
    before = len(rows)
    nested = [value for value in data.values() if isinstance(value, list | dict) and value]
    for value in nested if depth else ():
        yield from _add_rows(value, rows, depth - 1, most)
    # What is nested too deeply to be looked at may be a card's row, too.
    if len(rows) == before and (_is_card(data) or (nested and not depth)):
        rows.append((None, data))


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise ProtocolError(
            f"the reply has far more rows ({count:,}) than cards were asked for, and was not read; "
            "if they are about other cards, the host ignores the parameter with the ICCIDs: set "
            f"{setting('batch_parameter')}",
            "too_large",
        )
