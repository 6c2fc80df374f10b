"""Tokens in a file, for the processes of one machine."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import orjson
from filelock import FileLock, Timeout

from mioesim_async.tokens.codec import decode, encode, loads
from mioesim_async.tokens.store import StoredToken

__all__ = ["FileTokenStore"]

T = TypeVar("T")

POLL_SECONDS = 0.05
WRITE_SECONDS = 10.0


class FileTokenStore:
    """Tokens in one JSON file, for the processes of one machine.

    The file gets mode 0600, and the directory mode 0700 if it is made here, where the
    system has modes. It is written aside and renamed, so that nobody reads half of it. The
    lock is the system's: it ends with the process that holds it, however that ends.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Keep tokens in a file, which is made when it is needed.

        Args:
            path: The file; ``~`` is the home directory. For a directory that is there
                already, ``tokens.json`` in it.
        """
        chosen = Path(path).expanduser()
        self.path = chosen / "tokens.json" if chosen.is_dir() else chosen

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None.

        Raises:
            OSError: If the file can't be read.
            ValueError: If it holds something else.
        """
        record = (await _in_thread(self._read)).get(key)
        return None if record is None else decode(record)

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token.

        Raises:
            OSError: If the file can't be written.
        """
        await _in_thread(lambda: self._write(key, token))

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncGenerator[None]:
        """Hold the account's lock; waiting doesn't block the loop.

        Raises:
            OSError: If the lock's file can't be made.
        """
        lock = self._lock(f".{key[:16]}", timeout=0)
        while True:
            with suppress(Timeout):
                lock.acquire()
                break
            await asyncio.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()

    def _lock(self, name: str, *, timeout: float) -> FileLock:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One object for each holder: it is the open file that holds the system's lock.
        return FileLock(
            f"{self.path}{name}.lock",
            timeout=timeout,
            mode=0o600,
            thread_local=False,
            is_singleton=False,
        )

    def _read(self) -> dict[str, Any]:
        try:
            records = loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        if not isinstance(records, dict):
            raise ValueError(f"{self.path} is no token store")
        return records

    def _write(self, key: str, token: StoredToken) -> None:
        # Two accounts may be written at once, and each has a login lock of its own.
        with self._lock("", timeout=WRITE_SECONDS):
            try:
                records = self._read()
            except ValueError:
                records = {}
            records[key] = encode(token)
            # mkstemp gives mode 0600 from the start.
            handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(orjson.dumps(records))
                Path(name).replace(self.path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise


async def _in_thread(work: Callable[[], T]) -> T:
    """Work off the loop, and end only when it has: a cancelled save must not write later."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        if not working.cancelled():
            working.exception()
        raise
