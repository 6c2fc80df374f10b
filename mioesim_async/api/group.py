"""What groups of endpoints share: reading lists, and sweeps that end with the client."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeVar

from mioesim_async.errors import ClientClosed, InvalidRequest, ProtocolError
from mioesim_async.fanout import BatchStream
from mioesim_async.models.converter import structure_rows
from mioesim_async.models.replies import rows_of
from mioesim_async.models.subject import cards_named, check_about
from mioesim_async.transport.caller import Caller
from mioesim_async.transport.pace import Pace
from mioesim_async.wire.endpoints import Endpoint
from mioesim_async.wire.signing import Value

__all__ = ["Group", "check_id"]

logger = logging.getLogger("mioesim_async")

T = TypeVar("T")


class Group:
    """A group of endpoints."""

    def __init__(self, caller: Caller) -> None:
        """Ask through a caller."""
        self._caller = caller
        self._running: set[BatchStream[Any, Any]] = set()

    async def aclose(self) -> None:
        """Stop every sweep that is under way; who consumes it is told."""
        for stream in list(self._running):
            await stream.aclose(ClientClosed("the client was closed before the sweep's end"))

    async def _rows(
        self,
        endpoint: Endpoint,
        params: Mapping[str, Value],
        cls: type[T],
        deadline: float | None,
    ) -> list[T]:
        """Call an endpoint that answers with a list; a bad row is reported and skipped.

        Where the call is about one card, no row may be about another.
        """
        envelope = await self._caller.call(endpoint, params, deadline=deadline)
        try:
            return structure_rows(_rows_about(envelope.data, params.get("iccid")), cls)
        except ProtocolError as error:
            raise error.at(endpoint.path)

    def _pace(self, concurrency: int) -> Pace:
        """Cap a sweep's concurrency, so that other calls always find a free slot."""
        cap = self._caller.sweep_slots
        if type(concurrency) is not int or concurrency <= cap:
            return Pace(concurrency)
        logger.info("concurrency %d is capped at %d", concurrency, cap)
        return Pace(cap)


def _rows_about(data: Any, iccid: Value) -> list[Any]:
    """Return the rows of a reply, none of which is about another card than the one asked for."""
    rows = rows_of(data)
    if isinstance(iccid, str):
        for row in (data, *rows):
            check_about("card", [iccid], cards_named(row))
    return rows


def check_id(name: str, value: object) -> int:
    """Return one of the vendor's ids, if it can be one.

    Raises:
        InvalidRequest: If it is no whole number of 0 or more.
    """
    if type(value) is not int or value < 0:
        raise InvalidRequest(f"{name} must be a whole number of 0 or more, not {value!r}")
    return value
