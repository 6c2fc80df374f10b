"""Card rows out of whatever shape the vendor's ``data`` takes.

Which shape a batch reply has is shown nowhere: a list, a map by ICCID, or either inside an
object are all taken (assumed).
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from attrs import Factory, define

from mioesim_async.errors import ProtocolError
from mioesim_async.models.cards import CardDetail, CardStatus
from mioesim_async.models.iccid import iccid_in, iccid_or_none, names_another
from mioesim_async.rows.layout import MOST_FIELDS, clean_rows, hook_for, structure
from mioesim_async.slices import Steps
from mioesim_async.wire.depth import cut
from mioesim_async.wire.envelope import Envelope

__all__ = ["BatchReply", "detail_row", "read_batch", "read_detail", "read_usual", "rows_of"]

MAX_DEPTH = 4
ICCID = attrgetter("iccid")
WRAPPED = ("rows", "list", "records", "data")
ANOTHER = "a row is filed under one card and says that it is about another"

MOST_ROWS = 100
ROWS_PER_CARD = 10
"""Rows that a reply may have, and more for each card that was asked for.

A card may have several plans, and a host may send cards that nobody asked for.
"""


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
        self._read = hook_for(CardStatus)
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
                card: CardStatus = self._read(row, CardStatus)
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
    clean = clean_rows([row], CardDetail)
    card = structure(row, CardDetail) if clean is None else clean[0]
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


def rows_of(data: Any) -> list[Any]:
    """Return the rows of a reply that is a list, one object, or a list inside an object.

    Raises:
        ProtocolError: If it is none of these.
    """
    if data is None:
        return []
    if isinstance(data, list):
        return data
    if isinstance(data, dict):
        for name in WRAPPED:
            if isinstance(data.get(name), list):
                return list(data[name])
        return [] if not data or "total" in data or _is_wrapper(data) else [data]
    raise ProtocolError(f"expected a list of rows, got {type(data).__name__}")


def _only_row(data: Any, named: Named, iccid: str) -> Any:
    """Return the one row about a card, whatever it is wrapped in, or None."""
    for raw, row in named:
        if iccid_or_none(raw) == iccid:
            if isinstance(row, dict) and names_another(row, iccid):
                raise ProtocolError(ANOTHER)
            return row
    if any(raw is not None for raw, _ in named):
        raise ProtocolError("the reply is about another card than the one that was asked for")
    if isinstance(data, dict) and not _is_wrapper(data):
        return data or None
    if len(named) > 1:
        raise ProtocolError("the reply holds several rows and none says which card it is about")
    return named[0][1] if named else None


def _is_wrapper(data: dict[str, Any]) -> bool:
    """Tell whether an object only holds rows, and is none itself."""
    holds_rows = any(isinstance(data.get(name), list) for name in WRAPPED)
    return holds_rows or any(iccid_or_none(key) for key in data)


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


def _collect(data: Any, rows: Named, depth: int, most: int) -> Steps[None]:
    _check_count(len(rows) + len(data) if isinstance(data, list) else len(rows), most)
    yield
    if isinstance(data, list):
        for item in data:
            if isinstance(item, dict):
                rows.append((iccid_in(item), item))
            elif item is not None and iccid_or_none(item) is None:
                rows.append((None, item))
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
    if not keyed and depth:
        for value in data.values():
            if isinstance(value, list | dict):
                yield from _collect(value, rows, depth - 1, most)


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise ProtocolError(
            f"the reply has far more rows ({count:,}) than cards were asked for, and was not read; "
            "if they are about other cards, the host ignores which were meant: set "
            "Dialect(batch_parameter=...)",
            "too_large",
        )
