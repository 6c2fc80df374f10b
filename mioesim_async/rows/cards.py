"""How the vendor's rows about cards are read."""

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
from mioesim_async.rows.layout import (
    LAYOUTS,
    MOST_FIELDS,
    Layout,
    Wire,
    clean_rows,
    is_wrapper,
    normalised,
    reader_of,
    report_once,
    structure,
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
    "read_batch",
    "read_detail",
    "read_usual",
]


MAX_DEPTH = 4
ICCID = attrgetter("iccid")
ANOTHER = "a row is filed under one card and says that it is about another"

MOST_ROWS = 100
ROWS_PER_CARD = 10
"""Rows that a reply may have, and more for each card that was asked for.

A card may have several plans, and a host may send cards that nobody asked for.
"""


def _iccid(value: object) -> str | None:
    # Whoever asked for the card knows its ICCID; a number may have lost its last digits.
    return value or None if isinstance(value, str) else None


@scalars.remembered
def _dp_status(value: object) -> DpStatus | None:
    raw = scalars.text(value)
    return None if raw is None else DpStatus(raw)


WHOLE_CODES = ("code", "lpa", "lpastring")
"""Fields for a whole activation code, the preferred one first (observed)."""

ACTIVATION_FIELDS = (*WHOLE_CODES, "smdpaddress", "activationcode")
scalars.AS_IT_IS[_iccid] = str


def read_activation(values: dict[str, Any], extra: dict[str, Any]) -> None:
    """Build the code from a whole LPA string, or from its two halves.

    ``code`` is preferred, then ``lpa`` and ``lpaString``; a whole LPA string may also sit in either
    half. One without a
    matching id is completed with that of the other half, and taken only if nothing has one.
    Fields that say the same are used up; where one says something else, they stay in
    ``extra``.
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
        report_once("card", "a second activation code", "differs from the one that was taken")
        others = []
    for name in (*names, *others):
        del extra[keys[name]]


def _candidates(texts: dict[str, str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Give what may be an activation code with the fields that it is made of, best first."""
    address, matching = texts.get("smdpaddress"), texts.get("activationcode")
    half = matching if matching and "$" not in matching else None
    for name, text in texts.items():
        if text and (name in WHOLE_CODES or "$" in text):
            if half and (completed := _completed(text, half)):
                yield (name, "activationcode"), completed
            yield (name,), text
    if address and matching is not None and "$" not in address + matching:
        yield ("smdpaddress", "activationcode"), f"1${address}${matching}"


def _completed(whole: str, matching: str) -> str | None:
    """Put a matching id into a code that has an empty one; None if it has one."""
    parts = whole.split("$")
    if len(parts) < 3 or trimmed(parts[2]):
        return None
    return "$".join([*parts[:2], matching, *parts[3:]])


def _agrees(activation: ActivationCode, name: str, text: str) -> bool:
    """Tell whether a field says the same as the code, or nothing."""
    if not text:
        return True
    if name in WHOLE_CODES or "$" in text:
        with suppress(ValueError):
            return _comparable(ActivationCode.parse(text)) == _comparable(activation)
        return False
    if name == "activationcode":
        return text == activation.matching_id
    return text.lower() == activation.smdp_address.lower()


def _comparable(code: ActivationCode) -> ActivationCode:
    # Names of hosts are the same in any case.
    return evolve(code, smdp_address=code.smdp_address.lower())


CARD = {
    "iccid": Wire(("iccid",), _iccid),
    "dp_status": Wire(("dpStatus",), _dp_status, strict=True),
    "used_mb": Wire(("usedMB",), scalars.number, strict=True),
    "remaining_mb": Wire(
        ("remainingMB", "remainMB", "surplusMB", "leftMB", "remainingData", "remainData",
         "surplusData", "remainFlow", "remainingFlow", "surplusFlow", "remaining"),
        scalars.megabytes_or_number,
    ),
    # The plan's size ("6GB") comes without a word on units in its name, where nothing clearer does.
    "total_mb": Wire(
        ("totalMB",), scalars.megabytes_or_number, other={"data": scalars.megabytes}
    ),
    "starts_at": Wire(("startDate", "startTime", "beginDate"), scalars.start_time),
    "ends_at": Wire(("endDate", "endTime"), scalars.end_time),
    "order_num": Wire(("orderNum",), scalars.text),
    "sku_id": Wire(("skuId",), scalars.integer),
}  # fmt: skip

CARD_KEYS = frozenset(
    normalised(name)
    for wire in CARD.values()
    for name, _ in wire.readers()
    if name not in ("iccid", "data", "remaining")
)
"""Fields that only cards have."""

LAYOUTS.update(
    {
        CardStatus: Layout(CARD),
        CardDetail: Layout(CARD, read_activation),
        PastPlan: Layout(
            {
                "order_num": Wire(("orderNum",), scalars.text),
                "display": Wire(("display", "skuName", "name"), scalars.text),
                "status": Wire(("status",), scalars.integer),
                "starts_at": Wire(("startDate", "beginDate"), scalars.start_time),
                "ends_at": Wire(("endDate",), scalars.end_time),
            }
        ),
    }
)


@define
class BatchReply:
    """What one batch reply said of the cards that were asked for.

    Attributes:
        cards: By the ICCID that was asked for, in the order in which they were asked for.
        bad: Rows that can't be read, by ICCID.
        nameless: Rows that can't be read and don't say which card they are about.
        unasked: Cards that nobody asked for.
    """

    cards: dict[str, CardStatus] = Factory(dict)
    bad: dict[str, ProtocolError] = Factory(dict)
    nameless: int = 0
    unasked: int = 0


Named = list[tuple[Any, Any]]
"""Rows with the ICCID that each is about, as it came; None where it has none."""


def read_usual(envelope: Envelope, asked: Mapping[str, object]) -> BatchReply | None:
    """Read a list of rows about different cards that were asked for; None if it is anything else.

    All at once, where a reply with surprises is read row by row.
    """
    data = envelope.data
    if not isinstance(data, list) or len(data) > _most_rows(asked):
        return None
    if (cards := clean_rows(data, CardStatus)) is None:
        return None
    iccids = [*map(ICCID, cards)]
    if iccids == [*asked]:
        # These have been hashed.
        return BatchReply(dict(zip(asked, cards, strict=True)))
    named = dict(zip(iccids, cards, strict=True))
    usual = len(named) == len(data) and named.keys() <= asked.keys()
    return BatchReply(_in_order(named, asked)) if usual else None


def read_batch(envelope: Envelope, asked: Mapping[str, object]) -> Steps[BatchReply]:
    """Sort the rows of a reply that is not as usual to the ICCIDs that were asked for.

    Raises:
        ProtocolError: If it holds no cards, or far more rows than cards were asked for.
    """
    most = _most_rows(asked)
    named = yield from _named_rows(envelope.data, most)
    if _loses_digits(named):
        yield
        named = yield from _named_rows((yield from envelope.exact_in_steps()), most)
    sorting = _Sorting(asked)
    for raw, row in named:
        sorting.take(raw, row)
        yield
    return sorting.reply()


class _Sorting:
    """Sorts the rows of one reply."""

    def __init__(self, asked: Mapping[str, object]) -> None:
        self._asked = asked
        self._read = reader_of(CardStatus)
        self._reply = BatchReply()
        self._unread: dict[str, list[Any]] = {}
        self._contradicted: set[str] = set()
        self._claimed: set[str | None] = set()

    def take(self, raw: Any, row: Any) -> None:
        """Sort one row, with the ICCID that it is about as it came."""
        reply = self._reply
        iccid = raw if type(raw) is str and raw in self._asked else iccid_or_none(raw)
        if iccid is None:
            reply.nameless += 1
        elif isinstance(row, dict) and names_another(row, iccid):
            self._contradicted.add(iccid)
            self._claimed.add(iccid_or_none(iccid_in(row)))
        elif iccid not in self._asked:
            reply.unasked += 1
        elif (known := reply.cards.get(iccid)) is not None:
            # Several plans on one card: the first row is the card, none is dropped.
            known.extra.setdefault("more_rows", []).append(cut(row))
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
        """Return what was said of the cards that were asked for."""
        reply, asked = self._reply, self._asked
        for iccid in reply.cards.keys() & reply.bad.keys():
            del reply.bad[iccid]
            reply.cards[iccid].extra.setdefault("more_rows", []).extend(self._unread[iccid])
        # Neither card can be told from a row that contradicts itself, nor is one of them missing.
        doubted = self._contradicted | (self._claimed - reply.cards.keys())
        for iccid in [iccid for iccid in asked if iccid in doubted]:
            reply.cards.pop(iccid, None)
            reply.bad[iccid] = ProtocolError(ANOTHER)
        reply.cards = _in_order(reply.cards, asked)
        return reply


def _most_rows(asked: Mapping[str, object]) -> int:
    return MOST_ROWS + ROWS_PER_CARD * len(asked)


def _in_order(
    cards: Mapping[str, CardStatus], asked: Mapping[str, object]
) -> dict[str, CardStatus]:
    return {iccid: cards[iccid] for iccid in asked if iccid in cards}


def read_detail(envelope: Envelope, iccid: str) -> Steps[CardDetail | None]:
    """Read the one card that was asked for; None if there is none.

    Raises:
        ProtocolError: If the reply is about something else, or can't be read.
    """
    row = yield from detail_row(envelope, iccid)
    if row is None:
        return None
    card = structure(row, CardDetail)
    card.iccid = iccid
    return card


def detail_row(envelope: Envelope, iccid: str) -> Steps[Any]:
    """Return the one row about a card, with every digit of ICCIDs that came as numbers, or None.

    Raises:
        ProtocolError: If the reply is about something else.
    """
    data = envelope.data
    if isinstance(data, dict) and data.get("iccid") == iccid:
        return data
    named = yield from _named_rows(data, MOST_ROWS)
    if _loses_digits(named):
        yield
        data = yield from envelope.exact_in_steps()
        named = yield from _named_rows(data, MOST_ROWS)
    return _only_row(data, named, iccid)


def _loses_digits(named: Named) -> bool:
    # The fast parser can't hold integers over 64 bits.
    return any(
        isinstance(iccid, float) or (isinstance(row, dict) and isinstance(iccid_in(row), float))
        for iccid, row in named
    )


def _only_row(data: Any, named: Named, iccid: str) -> Any:
    """Return the one row about a card, whatever it is wrapped in, or None."""
    for raw, row in named:
        if iccid_or_none(raw) == iccid:
            if isinstance(row, dict) and names_another(row, iccid):
                raise ProtocolError(ANOTHER)
            return row
    if any(raw is not None for raw, _ in named):
        raise ProtocolError("the reply is about another card than the one that was asked for")
    if isinstance(data, dict) and not is_wrapper(data):
        return data or None
    if len(named) > 1:
        raise ProtocolError("the reply holds several rows and none says which card it is about")
    return named[0][1] if named else None


def _named_rows(data: Any, most: int) -> Steps[Named]:
    """Collect the rows of a reply.

    Args:
        data: The reply's data.
        most: So many rows it may have.
    """
    rows: Named = []
    if data is not None:
        if not isinstance(data, list | dict):
            raise ProtocolError(f"expected cards, got {type(data).__name__}")
        yield from _collect(data, rows, MAX_DEPTH, most)
    return rows


def _is_card(data: Any) -> bool:
    """Tell whether something has a field that only cards have, whichever card it is about."""
    return isinstance(data, dict) and any(normalised(key) in CARD_KEYS for key in data)


def _collect(data: Any, rows: Named, depth: int, most: int) -> Steps[None]:
    """Add the rows of a reply, or of what is in it; one that names no card has None.

    An object in a list is a row. An object elsewhere is one if it names a card, is filed under
    an ICCID, or has a field that only cards have.
    """
    _check_count(len(rows) + len(data) if isinstance(data, list) else len(rows), most)
    yield
    if isinstance(data, list):
        # A bare ICCID in a list says nothing of its card.
        items = [item for item in data if item is not None and iccid_or_none(item) is None]
        rows += [(iccid_in(item) if isinstance(item, dict) else None, item) for item in items]
        return
    if (iccid := iccid_in(data)) is not None:
        rows.append((iccid, data))
        return
    _check_count(len(data), most + MOST_FIELDS)
    keyed = [key for key in data if iccid_or_none(key) is not None]
    for key in keyed:
        value = data[key]
        several = value if isinstance(value, list) else [value]
        _check_count(len(rows) + len(several), most)
        rows.extend((key, row) for row in several if row is not None)
        yield
    if keyed:
        rows.extend((None, row) for key, row in data.items() if key not in keyed and _is_card(row))
    elif nested := [value for value in data.values() if isinstance(value, list | dict)]:
        for value in nested if depth else ():
            yield from _collect(value, rows, depth - 1, most)
    elif _is_card(data):
        rows.append((None, data))


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise ProtocolError(
            f"the reply has far more rows ({count:,}) than cards were asked for, and was not read; "
            "if they are about other cards, the host ignores which were meant: set "
            f"{setting('batch_parameter')}",
            "too_large",
        )
