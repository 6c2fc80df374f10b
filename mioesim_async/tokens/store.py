"""The protocol of token stores, and the one in memory."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, Protocol, TypeVar

import attrs
import orjson
from attrs import field, frozen

from mioesim_async.wire.dialect import Dialect

__all__ = [
    "MemoryTokenStore",
    "StoreUnavailable",
    "StoredToken",
    "TokenStore",
    "decode",
    "encode",
    "loads",
    "records_in",
    "to_its_end",
]

T = TypeVar("T")


@frozen
class StoredToken:
    """A token, and how to speak to the host that gave it.

    Attributes:
        token: The token. A secret, left out of ``repr``.
        obtained_at: When the login was answered, in seconds since the epoch (UTC).
        dialect: The dialect that was found, so that who takes the token from a store can sign.
    """

    token: str = field(repr=False)
    obtained_at: float
    dialect: Dialect


class StoreUnavailable(OSError):
    """A store of this package can't be used, and asking it again at once would not help.

    Its text says why and what to do. It holds no secret, so it is logged as it is.
    """


class TokenStore(Protocol):
    """Keeps one token per account, for every client that shares the store.

    Each method ends by itself within seconds, also when the store is down: a client waits for
    it. A ``ConfigurationError`` that a method raises reaches the caller of the client. After
    any other error the client goes on without the store, and tries it again.
    """

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None."""

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token."""

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Return a lock that one client at a time holds while it logs in."""
        ...


class MemoryTokenStore:
    """Tokens in this process, for clients of any of its event loops; the default.

    Give one store to several clients of an account and they share its token, also if each
    runs in an ``asyncio.run`` or a thread of its own.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._tokens: dict[str, StoredToken] = {}
        self._locks: dict[str, _Lock] = {}

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None."""
        return self._tokens.get(key)

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token."""
        self._tokens[key] = token

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Return the account's lock."""
        return self._locks.setdefault(key, _Lock())


class _Lock(AbstractAsyncContextManager[None]):
    """A lock for coroutines of different event loops; first come, first served.

    An ``asyncio.Lock`` belongs to the loop in which somebody first waited for it.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def locked(self) -> bool:
        """Tell whether somebody holds it."""
        return self._held

    async def __aenter__(self) -> None:
        """Wait until nobody else holds it."""
        with self._guard:
            if not self._held:
                self._held = True
                return
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            with self._guard:
                was_passed_on = turn not in self._waiting
                if not was_passed_on:
                    self._waiting.remove(turn)
            if was_passed_on:
                self._pass_on()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the next one have it."""
        self._pass_on()

    def _pass_on(self) -> None:
        with self._guard:
            while self._waiting:
                turn = self._waiting.popleft()
                try:
                    turn.get_loop().call_soon_threadsafe(_start, turn)
                except RuntimeError:
                    # Its loop was closed, and nobody waits there any more.
                    continue
                return
            self._held = False


def _start(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


async def to_its_end(work: Awaitable[T], *, stop: bool = False) -> T:
    """Wait until something has ended, also if the caller is cancelled meanwhile.

    Args:
        work: Runs in a task of its own.
        stop: Cancel it when the caller is cancelled; it may take no notice.

    Raises:
        asyncio.CancelledError: After its end, if the caller was cancelled.
    """
    working = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        if stop:
            working.cancel()
        while not working.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([working])
        if not working.cancelled():
            working.exception()
        raise


def encode(stored: StoredToken) -> dict[str, Any]:
    """Write a token, when it was obtained, and its dialect, as plain values."""
    return attrs.asdict(stored)


def decode(record: Any) -> StoredToken:
    """Read what ``encode`` wrote; fields that a later version added are passed over.

    Raises:
        ValueError: If it is something else; the message does not repeat it.
    """
    try:
        dialect = record["dialect"]
        known = {name: dialect[name] for name in attrs.fields_dict(Dialect) if name in dialect}
        token, obtained_at = record["token"], float(record["obtained_at"])
        if isinstance(token, str) and token:
            return StoredToken(token, obtained_at, Dialect(**known))
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError("what the token store holds can't be read")


def records_in(content: bytes) -> dict[str, Any] | None:
    """Return the records in a token file by account, or None if it is not a token file.

    A token file is empty, or a JSON object whose every value looks like what ``encode`` writes.
    A record of a later version does, too, so a file that has one is not refused.
    """
    if not content:
        return {}
    with suppress(ValueError):
        records = loads(content)
        if isinstance(records, dict) and all(map(_is_record, records.values())):
            return records
    return None


def _is_record(value: object) -> bool:
    match value:
        case {"token": str(), "obtained_at": int() | float(), "dialect": dict()}:
            return True
        case _:
            return False


def loads(text: bytes | str) -> Any:
    """Parse JSON text.

    Raises:
        ValueError: If it is none; the message and its causes do not repeat it.
    """
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    raise ValueError("what the token store holds is not JSON")
