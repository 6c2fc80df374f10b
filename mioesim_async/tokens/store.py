"""The protocol of token stores, the store in memory, and how tokens are written down."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
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
]

T = TypeVar("T")


@frozen
class StoredToken:
    """A token, and the dialect of the host that gave it.

    Attributes:
        token: The token. Secret, and left out of ``repr``.
        obtained_at: When the login was answered, in seconds since the epoch (UTC).
        dialect: The dialect of that login, so that other clients needn't find it out.
    """

    token: str = field(repr=False)
    obtained_at: float
    dialect: Dialect


class StoreUnavailable(OSError):
    """A store of this package can't be used, and trying again at once would not help.

    The message says why and what to do. It contains no secret, so it may be logged.
    """


class TokenStore(Protocol):
    """Keeps one token per account, for all clients that share the store.

    Clients wait for these methods, so each must return or raise within seconds, also when the
    store is down. A ``ConfigurationError`` is raised to the caller of the client. After any
    other error the client goes on without the store, and tries it again later.
    """

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None."""

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token."""

    def lock(self, key: str) -> AbstractAsyncContextManager[None]:
        """Return a lock that one client at a time holds while it logs in."""
        ...


class MemoryTokenStore:
    """A token store in memory, for the clients of one process; the default.

    Several clients of an account share its token if you give them one store, even if they run in
    different event loops or threads.
    """

    def __init__(self) -> None:
        """Start without tokens."""
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
    """A lock for coroutines of different event loops, which ``asyncio.Lock`` can't be.

    Waiters get it in their order.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    def locked(self) -> bool:
        return self._held

    async def __aenter__(self) -> None:
        with self._guard:
            if not self._held:
                self._held = True
                return
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            with self._guard:
                got_lock = waiter not in self._waiting
                if not got_lock:
                    self._waiting.remove(waiter)
            if got_lock:
                self._hand_over()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hand_over()

    def _hand_over(self) -> None:
        with self._guard:
            while self._waiting:
                waiter = self._waiting.popleft()
                try:
                    waiter.get_loop().call_soon_threadsafe(_wake, waiter)
                except RuntimeError:
                    # The loop of this waiter is closed.
                    continue
                return
            self._held = False


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def encode(stored: StoredToken) -> dict[str, Any]:
    """Return a token as JSON-ready data."""
    return attrs.asdict(stored)


def decode(record: Any) -> StoredToken:
    """Read what ``encode`` returned; ignore fields that a later version added.

    Raises:
        ValueError: If it is something else; the message does not contain it.
    """
    try:
        dialect = record["dialect"]
        known = {name: dialect[name] for name in attrs.fields_dict(Dialect) if name in dialect}
        token, obtained_at = record["token"], float(record["obtained_at"])
        if isinstance(token, str) and token:
            return StoredToken(token, obtained_at, Dialect(**known))
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError("a token in the token store can't be read")


def records_in(content: bytes) -> dict[str, Any] | None:
    """Return the records in a token file by account, or None if it is not a token file.

    A token file is empty, or a JSON object whose values all look like what ``encode`` returns.
    Records of later versions must look like it, too.
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
        ValueError: If it is not JSON; neither message nor cause contains the text.
    """
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    raise ValueError("a token in the token store is not JSON")
