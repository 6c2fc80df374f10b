"""The thread that works on a journal's file, with a connection that it keeps for a while."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from attrs import define, field

from mioesim_async.journal import faults, files, forks, table
from mioesim_async.journal.unusable import Fault, Unusable, refusal

__all__ = ["Job", "Worker"]

logger = logging.getLogger("mioesim_async")

STEP_SECONDS = 0.1
"""Seconds that SQLite waits for a lock before the journal checks if its caller was cancelled."""
PAUSE_SECONDS = 0.01
"""Seconds between two tries, since SQLite doesn't wait for every kind of lock."""
IDLE_SECONDS = 1.0
"""Seconds without work until the file is closed."""
GLANCE_SECONDS = 0.05
"""Seconds between two looks whether the interpreter ends, which waits for the thread."""

BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


@define(eq=False)
class Job:
    """Work to do in one transaction.

    Attributes:
        work: Takes the connection.
        until: The time, by ``time.monotonic``, until which it waits for other processes. It is
            tried at least once.
        writes: Whether it may change entries.
        settles: Whether it records an outcome, so that an error can't say that nothing was sent.
        future: Gets what the work returns, or the error, when the transaction has ended.
        is_given_up: Whether nobody waits for it any more; it isn't tried again then.
    """

    work: Callable[[sqlite3.Connection], Any]
    until: float
    writes: bool
    settles: bool
    future: Future[Any] = field(factory=Future)
    is_given_up: bool = False


class Worker:
    """Works on one file, in a thread that runs while there is work, and a second longer.

    All jobs that wait at the same time share one transaction, and so one commit.

    Attributes:
        known: Device, inode and id of the file, once it was used.
    """

    def __init__(
        self, path: Path, known: tuple[files.Identity, str] | None, clock: Any = time
    ) -> None:
        """Start nothing yet.

        Args:
            path: The file.
            known: As the attribute.
            clock: Has ``monotonic``.
        """
        self.known = known
        self._path = path
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[Job] = []
        self._is_running = False
        self._is_asked_to_close = False
        self._closers: list[Future[None]] = []
        self._db: sqlite3.Connection | None = None
        self._signs: tuple[int, ...] = ()

    def submit(self, job: Job) -> None:
        """Do a job as soon as possible."""
        with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()
            if not self._is_running:
                try:
                    threading.Thread(target=self._serve, name="mioesim_async journal").start()
                except RuntimeError:
                    # No thread can be started now: nobody would do the job.
                    self._waiting.remove(job)
                    raise
                self._is_running = True

    def close(self) -> Future[None]:
        """Close the file as soon as nothing is under way; return a future of that."""
        closed: Future[None] = Future()
        with self._changed:
            if not self._is_running:
                closed.set_result(None)
                return closed
            self._closers.append(closed)
        self._close_soon()
        return closed

    def _close_soon(self) -> None:
        with self._changed:
            self._is_asked_to_close = True
            self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            jobs = self._next()
            if not jobs or self._is_asked_to_close:
                self._close()
            if jobs:
                self._do(jobs)
                continue
            with self._changed:
                if not self._waiting:
                    self._is_running = False
                    self._tell_closers()
                    return

    def _next(self) -> list[Job]:
        """Wait for jobs; return none when the file should be closed."""
        idle_until = time.monotonic() + (IDLE_SECONDS if self._db is not None else 0.0)
        with self._changed:
            while not self._waiting:
                left = idle_until - time.monotonic()
                ends = self._is_asked_to_close or not threading.main_thread().is_alive()
                if ends or left <= 0:
                    return []
                self._changed.wait(min(left, GLANCE_SECONDS))
            return self._take()

    def _take(self) -> list[Job]:
        jobs, self._waiting = self._waiting, []
        return [job for job in jobs if job.future.set_running_or_notify_cancel()]

    def _do(self, jobs: list[Job]) -> None:
        """Do jobs in one transaction; try again while other processes lock the file."""
        while jobs:
            left = max(job.until for job in jobs) - self._clock.monotonic()
            try:
                ends = self._transact(jobs, min(STEP_SECONDS, max(0.0, left)))
            except Exception as error:
                # Any other error too, or else its callers would wait for ever.
                self._close()
                jobs = self._refuse(jobs, error)
            else:
                for job, end in zip(jobs, ends, strict=True):
                    if isinstance(end, Exception):
                        job.future.set_exception(end)
                    else:
                        job.future.set_result(end)
                return
            if jobs:
                time.sleep(PAUSE_SECONDS)
                with self._changed:
                    jobs += self._take()

    def _refuse(self, jobs: list[Job], error: Exception) -> list[Job]:
        """Give jobs that are over an error, and return the others."""
        now = self._clock.monotonic()
        is_busy = getattr(error, "sqlite_errorcode", 0) & 0xFF in BUSY
        left = [job for job in jobs if is_busy and job.until > now and not job.is_given_up]
        for job in jobs:
            if job not in left:
                job.future.set_exception(self._refusal(error, job))
        return left

    def _transact(self, jobs: list[Job], patience: float) -> list[Any]:
        """Run jobs in a transaction, and return what each returned, or its own error."""
        db = self._ready(patience)
        known = self.known
        found = self._signs[:2], table.file_id(db)
        if known not in (None, found):
            # The inode alone doesn't tell: a new file may get that of the deleted one.
            raise Unusable(faults.FILE_GONE)
        db.execute("BEGIN IMMEDIATE" if any(job.writes for job in jobs) else "BEGIN")
        ends = [self._run(db, job) for job in jobs]
        files.check_identity(self._path, found[0])
        db.execute("COMMIT")
        self.known = found
        # If the file is gone by now, what was written is lost.
        files.check_identity(self._path, found[0])
        return ends

    def _run(self, db: sqlite3.Connection, job: Job) -> Any:
        try:
            return job.work(db)
        except (Unusable, ArithmeticError, TypeError, ValueError) as error:
            # Only this job's entry can't be read. Nothing was written: a job reads first.
            return self._refusal(error, job)

    def _ready(self, patience: float) -> sqlite3.Connection:
        """Return the connection; open it again if the file at the path is another, or its mode."""
        if self._db is not None and not self._is_unchanged():
            self._close()
        if self._db is None:
            return self._open(patience)
        self._db.execute(f"PRAGMA busy_timeout={int(patience * 1000)}")
        return self._db

    def _is_unchanged(self) -> bool:
        try:
            now = self._path.lstat()
        except OSError:
            return False
        return _signs(now) == self._signs

    def _open(self, patience: float) -> sqlite3.Connection:
        forks.hold(self._close_soon)
        try:
            identity = files.prepare_file(self._path, self.known and self.known[0])
            # mode=rw, since SQLite would make a missing file with the mode of the umask.
            uri = f"{self._path.as_uri()}?mode=rw"
            self._db = sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None)
            self._db.execute("PRAGMA synchronous=FULL")
            table.prepare(self._db)
            files.restrict_access(self._path)
            files.check_identity(self._path, identity)
            self._signs = _signs(self._path.lstat())
        except BaseException:
            self._close(is_held=True)
            raise
        return self._db

    def _close(self, *, is_held: bool = False) -> None:
        is_held = is_held or self._db is not None
        db, self._db = self._db, None
        try:
            if db is not None:
                db.close()
        except sqlite3.Error as error:
            # What was committed is in the -wal, and the next one to open the file takes it over.
            logger.debug("closing the order journal at %s failed: %s", self._path, error)
        if is_held:
            forks.let_go(self._close_soon)
        with self._changed:
            self._is_asked_to_close = False
            self._tell_closers()

    def _tell_closers(self) -> None:
        closers, self._closers = self._closers, []
        for closed in closers:
            if closed.set_running_or_notify_cancel():
                closed.set_result(None)

    def _refusal(self, error: Exception, job: Job) -> Exception:
        if not isinstance(error, Unusable | sqlite3.Error | OSError):
            return error
        refused = refusal(f"at {self._path}", self._fault(error), was_asked_to_settle=job.settles)
        refused.__cause__ = error
        return refused

    def _fault(self, error: Exception) -> Fault:
        if self.known is not None:
            try:
                files.check_identity(self._path, self.known[0])
            except (Unusable, OSError) as gone:
                error = gone
        fault = faults.fault_of(error, self._path)
        # The file was a journal before, so another program has overwritten it.
        return faults.FILE_GONE if fault.is_lasting and self.known is not None else fault


def _signs(state: os.stat_result) -> tuple[int, ...]:
    """Return what stays the same while only journals use a file: device and inode, then others."""
    if not state.st_size:
        return ()
    return state.st_dev, state.st_ino, state.st_mode, state.st_uid, state.st_gid
