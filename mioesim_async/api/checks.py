"""Checks the ICCIDs that callers give: one, a list, or a stream of any length."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Iterable, Sized
from itertools import chain, islice

from mioesim_async.errors import InvalidRequest
from mioesim_async.fanout.source import Checked
from mioesim_async.models.iccid import check_iccids, check_in_steps, is_clean
from mioesim_async.slices import Steps, in_slices
from mioesim_async.wording import worded

__all__ = ["Iccids", "checked_iccids", "distinct_iccids", "one_iccid"]

Iccids = str | Iterable[str] | AsyncIterable[str]

PIECE = 1000
"""Items that are counted in one step."""


def checked_iccids(iccids: Iccids) -> Checked[str] | None:
    """Return an input that can be checked before a sweep starts; None if it has no length."""
    if isinstance(iccids, str):
        return Checked([iccids], _check)
    if isinstance(iccids, Iterable) and isinstance(iccids, Sized):
        return Checked(iccids, _check)
    return None


def one_iccid(iccid: str) -> str:
    """Return one ICCID, cleaned.

    Raises:
        InvalidRequest: If it is no ICCID.
    """
    return iccid if is_clean(iccid) else check_iccids([iccid])[0]


async def distinct_iccids(iccids: str | Iterable[str], most: int) -> dict[str, None]:
    """Clean ICCIDs and return each once, in the order of the input.

    Args:
        iccids: The ICCIDs.
        most: How many distinct ICCIDs there may be.

    Raises:
        InvalidRequest: With a fault for each item that is no ICCID, or if there are too many.
    """
    if isinstance(iccids, str):
        return {one_iccid(iccids): None}
    if isinstance(iccids, Sized) and len(iccids) <= most:
        return dict.fromkeys(check_iccids(iccids))
    if isinstance(iccids, Sized):
        checked = Checked(iccids, check_in_steps)
        await checked.check()
        return await in_slices(_distinct(checked, most))
    pieces = await in_slices(check_in_steps(iccids))
    return await in_slices(_distinct(chain.from_iterable(pieces), most))


def _check(iccids: Iterable[str]) -> Steps[deque[list[str]]]:
    try:
        return (yield from check_in_steps(iccids))
    except InvalidRequest as error:
        way = worded("Pass iter(...)")
        error.add_note(f"{way} to get a failed outcome for each bad item instead.")
        raise


def _distinct(iccids: Iterable[str], most: int) -> Steps[dict[str, None]]:
    distinct: dict[str, None] = {}
    count = 0
    left = iter(iccids)
    while piece := list(islice(left, PIECE)):
        count += len(piece)
        if len(distinct) <= most:
            distinct.update(dict.fromkeys(piece))
        yield
    if len(distinct) > most:
        raise InvalidRequest(
            f"{count:,} ICCIDs are more than one request takes ({most}); use query_many() or "
            "query_all()"
        )
    return distinct
