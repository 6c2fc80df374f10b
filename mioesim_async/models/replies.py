"""Card rows out of whatever shape the vendor's ``data`` takes.

Which shape a batch reply has is shown nowhere: a list, a map by ICCID, or either inside an
object are all taken (assumed).
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from attrs import Factory, define

from mioesim_async.errors import InvalidRequest, ProtocolError
from mioesim_async.models.cards import CardStatus
from mioesim_async.models.converter import hook_for
from mioesim_async.models.iccid import clean_iccid
from mioesim_async.models.reader import clean_rows
from mioesim_async.wire.envelope import Envelope

__all__ = ["BatchReply", "card_data", "only_row", "read_batch", "rows_of"]

MAX_DEPTH = 4
ICCID = attrgetter("iccid")
WRAPPED = ("rows", "list", "records", "data")
SPELLINGS = ("iccid", "ICCID", "iccId", "Iccid", "iccID", "icc_id")


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


def read_batch(envelope: Envelope, asked: Mapping[str, object]) -> BatchReply:
    """Sort the rows of a batch reply to the ICCIDs that were asked for."""
    cards = _usual_cards(envelope.data, asked)
    if cards is not None:
        return BatchReply(cards)
    named = _named_rows(envelope.data)
    if _loses_digits(named):
        named = _named_rows(envelope.exact_data())
    reply = BatchReply()
    hook = hook_for(CardStatus)
    unread: dict[str, list[Any]] = {}
    for raw, row in named:
        iccid = raw if type(raw) is str and raw in asked else _cleaned(raw)
        if iccid is None:
            reply.nameless += 1
        elif iccid not in asked:
            reply.unasked += 1
        elif (known := reply.cards.get(iccid)) is not None:
            # Several plans on one card: the first row is the card, none is dropped.
            known.extra.setdefault("more_rows", []).append(row)
        else:
            try:
                card: CardStatus = hook(row, CardStatus)
            except ProtocolError as error:
                reply.bad.setdefault(iccid, error)
                unread.setdefault(iccid, []).append(row)
            else:
                card.iccid = iccid
                reply.cards[iccid] = card
    for iccid in reply.cards.keys() & reply.bad.keys():
        del reply.bad[iccid]
        reply.cards[iccid].extra.setdefault("more_rows", []).extend(unread[iccid])
    reply.cards = _in_order(reply.cards, asked)
    return reply


def _usual_cards(data: Any, asked: Mapping[str, object]) -> dict[str, CardStatus] | None:
    """Read a list of rows about different cards that were asked for; None if it is anything else.

    All at once, where a reply with surprises is read row by row.
    """
    if not isinstance(data, list) or (cards := clean_rows(data, CardStatus)) is None:
        return None
    iccids = [*map(ICCID, cards)]
    if iccids == [*asked]:
        # These have been hashed.
        return dict(zip(asked, cards, strict=True))
    named = dict(zip(iccids, cards, strict=True))
    usual = len(named) == len(data) and named.keys() <= asked.keys()
    return _in_order(named, asked) if usual else None


def _in_order(
    cards: Mapping[str, CardStatus], asked: Mapping[str, object]
) -> dict[str, CardStatus]:
    return {iccid: cards[iccid] for iccid in asked if iccid in cards}


def card_data(envelope: Envelope) -> Any:
    """Return a reply's data, with every digit of ICCIDs that came as numbers."""
    data = envelope.data
    if isinstance(data, dict) and data.get("iccid") and isinstance(data["iccid"], str):
        return data
    return envelope.exact_data() if _loses_digits(_named_rows(data)) else data


def _loses_digits(named: Named) -> bool:
    # The fast parser can't hold integers over 64 bits.
    return any(type(iccid) is not str and iccid is not None for iccid, _ in named)


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


def only_row(data: Any, iccid: str) -> Any:
    """Return the one row about a card, whatever it is wrapped in, or None.

    Raises:
        ProtocolError: If the reply is about something else.
    """
    if data is None or (isinstance(data, dict) and data.get("iccid") == iccid):
        return data
    named = _named_rows(data)
    for raw, row in named:
        if _cleaned(raw) == iccid:
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
    return holds_rows or any(_cleaned(key) for key in data)


def _named_rows(data: Any) -> Named:
    rows: Named = []
    if data is not None:
        if not isinstance(data, list | dict):
            raise ProtocolError(f"expected cards, got {type(data).__name__}")
        _collect(data, rows, MAX_DEPTH)
    return rows


def _collect(data: Any, rows: Named, depth: int) -> None:
    if isinstance(data, list):
        for item in data:
            if isinstance(item, dict):
                rows.append((_iccid_in(item), item))
            elif item is not None and _cleaned(item) is None:
                rows.append((None, item))
        return
    if (iccid := _iccid_in(data)) is not None:
        rows.append((iccid, data))
        return
    keyed = [key for key in data if _cleaned(key) is not None]
    for key in keyed:
        value = data[key]
        several = value if isinstance(value, list) else [value]
        rows.extend((key, row) for row in several if row is not None)
    if not keyed and depth:
        for value in data.values():
            if isinstance(value, list | dict):
                _collect(value, rows, depth - 1)


def _iccid_in(row: dict[str, Any]) -> Any:
    for spelling in SPELLINGS:
        value = row.get(spelling)
        if value is not None and value != "":
            return value
    return None


def _cleaned(raw: Any) -> str | None:
    try:
        return clean_iccid(str(raw) if type(raw) is int else raw)
    except InvalidRequest:
        return None
