"""A token store in a file, for the processes of one machine."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from mioesim_async.closing import run_to_end
from mioesim_async.errors import ConfigurationError
from mioesim_async.private_file import replace_file
from mioesim_async.tokens.store import (
    StoredToken,
    StoreUnavailable,
    decode,
    encode,
    records_in,
)

__all__ = ["FileTokenStore"]

POLL_SECONDS = 0.05
HEARTBEAT_SECONDS = 1.0
"""Seconds between two heartbeats of the process that holds a lock."""

MAX_POLLS = 100
"""After so many polls (five seconds) without a heartbeat, the holder counts as stopped.

Polls are counted and not seconds, since time also passes while this process itself is stopped.
"""

MAX_BYTES = 16 * 1024 * 1024
"""Limit of a token file's size; it has some 200 bytes for each account."""

READ_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
)
KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
WRITING = "writing"


class FileTokenStore:
    """A token store in one JSON file, for the processes of one machine.

    The file gets mode 0600, and a directory that is made here gets mode 0700, on systems that
    have modes. Writes are atomic. The lock is one of the operating system, which frees it when
    the process that holds it ends. If that process is stopped for five seconds, waiting for the
    lock raises an ``OSError``, and a client goes on without the lock.

    A file that isn't a token file is left as it is, and every method raises
    ``ConfigurationError`` for it. ``OSError`` is raised if the file or its lock can't be used.
    One store can be used in any number of event loops.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Keep tokens in a file, which is made when it is needed.

        Args:
            path: The file; ``~`` is the home directory. If it is a directory, the file is
                ``tokens.json`` in it. An existing file must be empty or a token file, and no
                symbolic link.
        """
        chosen = Path(path).expanduser()
        self.path = chosen / "tokens.json" if chosen.is_dir() else chosen

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None.

        Raises:
            ConfigurationError: If the file is not a token file.
            OSError: If it can't be read.
            ValueError: If the account's record in it can't be read.
        """
        record = (await asyncio.to_thread(self._read)).get(key)
        return None if record is None else decode(record)

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token.

        Raises:
            ConfigurationError: If the file is not a token file.
            OSError: If it can't be written.
        """
        # The login lock is per account, so it doesn't stop others from writing the same file.
        async with self._hold(WRITING):
            # If the caller is cancelled, wait, so that nothing is written after this returns.
            await run_to_end(asyncio.to_thread(self._write, key, token))

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncGenerator[None]:
        """Hold the account's lock; waiting for it doesn't block the event loop.

        Raises:
            ConfigurationError: If the file is not a token file.
            OSError: If the lock file can't be made, or the process that holds it is stopped.
        """
        async with self._hold(f"login {key}"):
            yield

    @asynccontextmanager
    async def _hold(self, name: str) -> AsyncGenerator[None]:
        # A digest, since the name may be too long for a file name, or hold any character.
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        path = Path(f"{self.path}.{digest}.lock")
        await asyncio.to_thread(self._prepare)
        # A new object each time, since the lock belongs to the open file.
        lock = FileLock(path, timeout=0, mode=0o600, thread_local=False, is_singleton=False)
        await self._take(lock, path)
        signs = _Heartbeat(path)
        try:
            yield
        finally:
            signs.stop()
            lock.release()

    async def _take(self, lock: FileLock, path: Path) -> None:
        seen, polls = None, 0
        while not self._try(lock):
            sign, polls = _last_heartbeat(path), polls + 1
            if sign != seen:
                seen, polls = sign, 0
            elif polls >= MAX_POLLS:
                raise StoreUnavailable(
                    f"waited {MAX_POLLS * POLL_SECONDS:g} s for {path}, the lock of the token "
                    "file: the process that holds it is stopped or blocked; find it with "
                    f"`fuser {path}`, and continue or end it"
                )
            await asyncio.sleep(POLL_SECONDS)

    def _try(self, lock: FileLock) -> bool:
        with self._explained(f"the lock {lock.lock_file} of the token file"):
            try:
                lock.acquire()
            except Timeout:
                return False
            return True

    def _prepare(self) -> None:
        """Check the file, and make its directory."""
        self._read()
        with self._explained():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _read(self) -> dict[str, Any]:
        """Return the records by account; none if the file is missing or empty.

        Raises:
            ConfigurationError: If it is not a token file.
            OSError: If it can't be read.
        """
        records = records_in(self._content())
        if records is None:
            raise self._refusal("holds something other than tokens")
        return records

    def _content(self) -> bytes:
        with self._explained():
            try:
                # Check first, since opening a pipe or a device may block or have effects.
                self._check_kind(self.path.lstat())
                descriptor = os.open(self.path, READ_FLAGS)
            except FileNotFoundError:
                return b""
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                self._check_kind(found)
                if found.st_size > MAX_BYTES:
                    raise self._refusal("is larger than any token file")
                return file.read()

    def _check_kind(self, found: os.stat_result) -> None:
        if stat.S_ISREG(found.st_mode):
            return
        if stat.S_ISLNK(found.st_mode):
            raise self._refusal(f"is a symbolic link to {self.path.readlink()}, not followed")
        raise self._refusal(f"is {KINDS.get(stat.S_IFMT(found.st_mode), 'not a regular file')}")

    def _refusal(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"the token file {self.path} {why}, and was left as it was; give the token store the "
            "path of a file that is new, empty or a token file; a token file that was damaged can "
            "be moved away"
        )

    @contextmanager
    def _explained(self, which: str = "") -> Generator[None]:
        """Raise ``StoreUnavailable``, with what to do, for an ``OSError`` in the block."""
        try:
            yield
        except OSError as error:
            file = which or f"the token file {self.path}"
            raise StoreUnavailable(
                f"{file} can't be used: {error.strerror or error}; it must be on a local disk with "
                "room, and this user must be able to write it and its directory"
            ) from error

    def _write(self, key: str, token: StoredToken) -> None:
        records = self._read()
        records[key] = encode(token)
        with self._explained():
            replace_file(self.path, orjson.dumps(records))


class _Heartbeat:
    """Touches the lock file regularly, in the running loop, until it is stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._touch()

    def _touch(self) -> None:
        with suppress(OSError):
            os.utime(self._path)
        self._timer = self._loop.call_later(HEARTBEAT_SECONDS, self._touch)

    def stop(self) -> None:
        self._timer.cancel()


def _last_heartbeat(path: Path) -> int | None:
    with suppress(OSError):
        # The access time, since opening the lock file may change its modification time.
        return path.stat().st_atime_ns
    return None
