"""Cancels an operation at its k-th suspension, in whichever of its tasks that is.

Suspensions of tasks that the SDK starts count too: each task runs in a wrapper that sees every
suspension.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Self

from filelock import FileLock

from mioesim_async import FileTokenStore, MemoryTokenStore, slices
from mioesim_async.tokens.store import TokenStore

__all__ = ["Steps", "is_locked"]


class _Watched(Coroutine[Any, Any, Any]):
    """A coroutine that calls a function at each of its suspensions."""

    def __init__(self, inner: Any, seen: Callable[[], None]) -> None:
        self._inner = inner
        self._seen = seen
        self.__qualname__ = self.__name__ = getattr(inner, "__qualname__", "watched")

    def send(self, value: Any) -> Any:
        future = self._inner.send(value)
        self._seen()
        return future

    def throw(self, *error: Any) -> Any:
        future = self._inner.throw(*error)
        self._seen()
        return future

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        value: Any = None
        failed: BaseException | None = None
        while True:
            try:
                future = self.send(value) if failed is None else self.throw(failed)
            except StopIteration as done:
                return done.value
            value = failed = None
            try:
                value = yield future
            except BaseException as error:
                failed = error


class Steps:
    """Counts the suspensions of one operation and acts at the k-th.

    Attributes:
        reached: Whether the k-th suspension was reached.
        tasks: The tasks that the SDK started.
    """

    def __init__(self, stop_at: int, act: Callable[[], object] | None = None) -> None:
        """Do something at one suspension.

        Args:
            stop_at: The number of the suspension, from 1.
            act: Called at that suspension; by default, the caller's task is cancelled.
        """
        self.reached = False
        self.tasks: list[asyncio.Task[Any]] = []
        self._stop_at = stop_at
        self._act = act
        self._count = 0
        self._caller: asyncio.Task[Any] | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(self._make_task)
        # How many suspensions there are must not depend on how long the work takes.
        self._now, slices.now = slices.now, lambda: 0.0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.set_task_factory(None)
        slices.now = self._now

    def drive(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Run the operation in a task of its own, as a caller of the SDK would."""

        async def operation() -> Any:
            self._caller = asyncio.current_task()
            return await _Watched(work.__await__(), self._suspended)

        return asyncio.Task(operation(), loop=self._loop)

    def _make_task(self, loop: Any, work: Any, **options: Any) -> asyncio.Task[Any]:
        code = getattr(work, "cr_code", None)
        place = "" if code is None else code.co_filename.replace("\\", "/")
        if "/mioesim_async/" not in place or "/mioesim_async/sandbox/" in place:
            return asyncio.Task(work, loop=loop, **options)
        task = asyncio.Task(_Watched(work, self._suspended), loop=loop, **options)
        self.tasks.append(task)
        return task

    def _suspended(self) -> None:
        self._count += 1
        if self._count != self._stop_at:
            return
        self.reached = True
        if self._act is not None:
            self._act()
        elif self._caller is not None:
            self._caller.cancel()


def is_locked(store: TokenStore) -> bool:
    if isinstance(store, MemoryTokenStore):
        return any(lock.locked() for lock in store._locks.values())
    assert isinstance(store, FileTokenStore)
    for path in store.path.parent.glob("*.lock"):
        lock = FileLock(path, timeout=0, is_singleton=False)
        lock.acquire()
        lock.release()
    return False
