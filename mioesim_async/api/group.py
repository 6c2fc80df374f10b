"""The base class of the groups of endpoints, such as ``client.cards``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from mioesim_async.errors import (
    ApiError,
    ClientClosed,
    HttpStatusError,
    InvalidRequest,
    MioEsimError,
    ProtocolError,
    SignatureError,
)
from mioesim_async.fanout import BatchStream
from mioesim_async.rows.layout import read_rows_in_steps, rows_of
from mioesim_async.rows.subject import cards_named, check_about
from mioesim_async.slices import Steps, in_slices
from mioesim_async.transport.caller import Caller
from mioesim_async.wire.endpoints import Endpoint
from mioesim_async.wire.signing import Value

__all__ = ["Group", "check_id", "refused_all"]

T = TypeVar("T")


class Group:
    """A group of endpoints; it closes its sweeps with the client."""

    def __init__(self, caller: Caller) -> None:
        """Use the caller for every call."""
        self._caller = caller
        self._running: set[BatchStream[Any, Any]] = set()

    async def aclose(self) -> None:
        """Stop every running sweep; its stream raises ``ClientClosed``."""
        for stream in list(self._running):
            await stream.aclose(ClientClosed("the client was closed before the sweep's end"))

    async def _list(
        self,
        endpoint: Endpoint,
        params: Mapping[str, Value],
        cls: type[T],
        deadline: float | None,
    ) -> list[T]:
        """Call an endpoint that returns a list; log and skip rows that can't be read.

        If the call is about one card, a row about another card is refused.
        """
        envelope = await self._caller.call(endpoint, params, deadline=deadline)
        try:
            rows = await in_slices(_rows_about(envelope.data, params.get("iccid")))
            models, _ = await in_slices(read_rows_in_steps(rows, cls))
        except ProtocolError as error:
            raise error.at(endpoint.path)
        return models


def _rows_about(data: Any, iccid: Value) -> Steps[list[Any]]:
    """Return the rows of a reply; raise ProtocolError if one is about another card."""
    rows = rows_of(data)
    if isinstance(iccid, str):
        for row in (data, *rows):
            check_about("card", [iccid], cards_named(row))
            yield
    return rows


def refused_all(error: MioEsimError, parameter: str) -> MioEsimError:
    """Return the error that ends a sweep, if the host gives every batch the same refusal.

    Args:
        error: The refusal.
        parameter: The name of the parameter that was sent with each batch.
    """
    why = "the first batches all got this answer, and none succeeded, so the sweep stopped"
    if isinstance(error, SignatureError):
        hint = f"{error.hint}; {why}"
        return SignatureError(error.endpoint, error.code, error.message, error.data, hint)
    why += (
        ". A firewall may block the calls, or this machine's IP address may be missing on the "
        "vendor's whitelist; ask the vendor to add it"
    )
    if isinstance(error, ApiError):
        hint = f"{error.hint}; the parameter was {parameter!r}; {why}"
        return type(error)(error.endpoint, error.code, error.message, error.data, hint)
    if isinstance(error, HttpStatusError):
        ended = HttpStatusError(f"{error}; {why}", error.status, error.retry_after)
        return ended.at(error.endpoint)
    return error


def check_id(name: str, value: object) -> int:
    """Return the value, if it can be an id of the vendor.

    Raises:
        InvalidRequest: If the value is not a whole number of 0 or more.
    """
    if type(value) is not int or value < 0:
        raise InvalidRequest(f"{name} must be a whole number of 0 or more, not {value!r}")
    return value
