"""Tokens in a file, for the processes of one machine."""

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

from mioesim_async.errors import ConfigurationError
from mioesim_async.private_file import replace_file
from mioesim_async.tokens.store import (
    StoredToken,
    StoreUnavailable,
    decode,
    encode,
    records_in,
    to_its_end,
)

__all__ = ["FileTokenStore"]

POLL_SECONDS = 0.05
SIGN_SECONDS = 1.0
"""How often a holder of a lock shows that it is alive."""

PATIENCE_POLLS = 100
"""So many polls, five seconds of them, without such a sign: the holder is stopped. Polls are
counted, since seconds also pass while this process itself is held up."""

MOST_BYTES = 16 * 1024 * 1024
"""More than any token file has, with some 200 bytes for an account."""

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
    """Tokens in one JSON file, for the processes of one machine.

    The file gets mode 0600, and the directory mode 0700 if it is made here, where the
    system has modes. It is written aside and renamed, so that nobody reads half of it. The
    lock is the system's: it ends with the process that holds it, however that ends. Who waits
    for a holder that shows no sign of life for five seconds gets an ``OSError``, and a client
    then goes on without the lock.

    A file that isn't a token file is refused and left as it is. One store serves any number of
    event loops. Every method raises ``ConfigurationError`` for such a file, and ``OSError``
    if the file or its lock can't be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Keep tokens in a file, which is made when it is needed.

        Args:
            path: The file; ``~`` is the home directory. For a directory that is there
                already, ``tokens.json`` in it. A file that is there must be empty or a token
                file, and not a symbolic link.
        """
        chosen = Path(path).expanduser()
        self.path = chosen / "tokens.json" if chosen.is_dir() else chosen

    async def load(self, key: str) -> StoredToken | None:
        """Return the account's token, or None.

        Raises:
            ConfigurationError: If the file is not a token file.
            OSError: If it can't be read.
            ValueError: If its record of the account can't be read.
        """
        record = (await asyncio.to_thread(self._read)).get(key)
        return None if record is None else decode(record)

    async def save(self, key: str, token: StoredToken) -> None:
        """Replace the account's token.

        Raises:
            ConfigurationError: If the file is not a token file.
            OSError: If it can't be written.
        """
        # Two accounts may be written at once, and each has a login lock of its own.
        async with self._hold(WRITING):
            # A save that was cancelled must not write later.
            await to_its_end(asyncio.to_thread(self._write, key, token))

    @asynccontextmanager
    async def lock(self, key: str) -> AsyncGenerator[None]:
        """Hold the account's lock; waiting doesn't block the loop.

        Raises:
            ConfigurationError: If the file is not a token file.
            OSError: If the lock's file can't be made, or its holder is stopped.
        """
        async with self._hold(f"login {key}"):
            yield

    @asynccontextmanager
    async def _hold(self, name: str) -> AsyncGenerator[None]:
        """Hold one of the file's locks."""
        # A text of any length and content becomes part of a file's name.
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        path = Path(f"{self.path}.{digest}.lock")
        await asyncio.to_thread(self._prepare)
        # One object for each holder: it is the open file that holds the system's lock.
        lock = FileLock(path, timeout=0, mode=0o600, thread_local=False, is_singleton=False)
        await self._take(lock, path)
        signs = _SignsOfLife(path)
        try:
            yield
        finally:
            signs.stop()
            lock.release()

    async def _take(self, lock: FileLock, path: Path) -> None:
        seen, polls = None, 0
        while not self._try(lock):
            sign, polls = _sign_of_life(path), polls + 1
            if sign != seen:
                seen, polls = sign, 0
            elif polls >= PATIENCE_POLLS:
                raise StoreUnavailable(
                    f"waited {PATIENCE_POLLS * POLL_SECONDS:g} s for {path}, the lock of the token "
                    "file: the process that holds it is stopped or held up; find it with "
                    f"`fuser {path}`, and let it go on or end it"
                )
            await asyncio.sleep(POLL_SECONDS)

    def _try(self, lock: FileLock) -> bool:
        with self._told(f"the lock {lock.lock_file} of the token file"):
            try:
                lock.acquire()
            except Timeout:
                return False
            return True

    def _prepare(self) -> None:
        """Make the directory, unless the file is refused."""
        self._read()
        with self._told():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _read(self) -> dict[str, Any]:
        """Return the records by account; none if there is no file, or an empty one.

        Raises:
            ConfigurationError: If it is not a token file.
            OSError: If it can't be read.
        """
        records = records_in(self._content())
        if records is None:
            raise self._refusal("holds something other than tokens")
        return records

    def _content(self) -> bytes:
        with self._told():
            try:
                # Opening what is not a regular file may take for ever, or do something.
                self._check_kind(self.path.lstat())
                descriptor = os.open(self.path, READ_FLAGS)
            except FileNotFoundError:
                return b""
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(descriptor)
                self._check_kind(found)
                if found.st_size > MOST_BYTES:
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
    def _told(self, which: str = "") -> Generator[None]:
        """Say in one sentence why the file, or another of its files, can't be used."""
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
        with self._told():
            replace_file(self.path, orjson.dumps(records))


class _SignsOfLife:
    """Touches a lock's file again and again, in the running loop, until it is stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._touch()

    def _touch(self) -> None:
        with suppress(OSError):
            os.utime(self._path)
        self._timer = self._loop.call_later(SIGN_SECONDS, self._touch)

    def stop(self) -> None:
        self._timer.cancel()


def _sign_of_life(path: Path) -> int | None:
    with suppress(OSError):
        # The time of the last access: opening the file may change that of its last change.
        return path.stat().st_atime_ns
    return None
