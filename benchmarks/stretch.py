"""Measures for each public call how long it blocks the event loop at most, in CPU time.

A stretch is the CPU time of the whole process between two turns of the loop. It includes threads,
since they hold the interpreter's lock, but not the garbage collector. Each call is made several
times, and the figure is the median of its longest stretches. The limit is 5 ms, or 25 ms for each
MiB of a reply about more than 100 things, or 10 ms for a report of 200,000 cards, whose dict grows
in one piece. A line that ends in MISSED took longer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import frozen

from benchmarks.replies import iccid, replies
from mioesim_async import (
    Credentials,
    Dialect,
    MioEsimClient,
    OrderJournal,
    OrderLine,
    PoolLimits,
    RetryPolicy,
    SessionManager,
    errors,
    fan_out,
)

LIMIT = 5.0
LIMIT_PER_MIB = 25.0
"""Milliseconds."""

Call = Callable[[MioEsimClient], Awaitable[object]]


class Stretch:
    """Measures the longest stretch while its block runs.

    Attributes:
        longest: Milliseconds of CPU.
    """

    def __init__(self, pause: float = 0.0) -> None:
        """Sleep for so many seconds in each turn, so that several replies wait."""
        self.longest = 0.0
        self._pause = pause
        self._collecting = self._collected = 0.0
        self._running = False

    async def __aenter__(self) -> Self:
        gc.callbacks.append(self._collector)
        self._loop = asyncio.get_running_loop()
        self._running = True
        await asyncio.sleep(0)
        self._turned = time.process_time()
        self._collected = 0.0
        self._loop.call_soon(self._beat)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.sleep(0)
        self._running = False
        gc.callbacks.remove(self._collector)

    def _beat(self) -> None:
        now = time.process_time()
        self.longest = max(self.longest, (now - self._turned - self._collected) * 1000)
        if not self._running:
            return
        if self._pause:
            time.sleep(self._pause)
        self._loop.call_soon(self._beat)
        self._turned, self._collected = time.process_time(), 0.0

    def _collector(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.process_time()
        else:
            self._collected += time.process_time() - self._collecting


@frozen
class Case:
    """One call: its name, its input, the host's kind of reply, and its limit in milliseconds."""

    name: str
    given: str
    host: str
    call: Call
    limit: float = LIMIT
    pause: float = 0.0
    in_flight: int = 32


def clean(count: int) -> list[str]:
    return [iccid(number) for number in range(count)]


def dirty(count: int) -> list[str]:
    return [f"{iccid(number)[:10]} {iccid(number)[10:]}F" for number in range(count)]


def bad(count: int) -> list[str]:
    return [f"x{iccid(number)}" for number in range(count)]


async def drain(stream: Any) -> None:
    async with stream:
        async for _ in stream:
            pass


async def some_of(stream: Any) -> None:
    """Read a few outcomes, and close the stream."""
    async with stream:
        for _ in range(100):
            await anext(stream, None)


def lists(short: bool) -> Iterator[tuple[str, list[str]]]:
    most, some = (2_000, 1_000) if short else (200_000, 20_000)
    for count in (1, 100, some, most):
        yield f"{count:,} clean", clean(count)
    yield f"{most // 4:,} to clean", dirty(most // 4)
    yield f"{most // 4:,} bad", bad(most // 4)


def list_calls(iccids: list[str]) -> Iterator[tuple[str, Call]]:
    yield "cards.query", lambda c: c.cards.query(iccids)
    yield "cards.query_many", lambda c: drain(c.cards.query_many(iccids))
    yield "cards.query_all", lambda c: c.cards.query_all(iccids)
    # Each card is a request, so only some are read.
    yield "cards.details, some of", lambda c: some_of(c.cards.details(iccids))
    yield "fan_out", lambda _: drain(fan_out(iccids, nothing))


async def nothing(_: list[str]) -> None:
    pass


def sweeps(short: bool) -> Iterator[Case]:
    for given, iccids in lists(short):
        for name, call in list_calls(iccids):
            # A report's dict of so many cards grows in one piece.
            is_large = name == "cards.query_all" and len(iccids) > 100_000
            yield Case(name, given, "usual", call, 2 * LIMIT if is_large else LIMIT)
    many, count, some = (
        clean(5_000 if short else 1_000_000),
        1_000 if short else 100_000,
        clean(500 if short else 20_000),
    )
    wrong = bad(count)
    yield Case(
        "cards.query_many, some of", f"{len(many):,} clean", "usual",
        lambda c: some_of(c.cards.query_many(many)),
    )  # fmt: skip
    yield Case(
        "cards.query_all", f"{count:,}, all missing", "missing",
        lambda c: c.cards.query_all(many[:count]),
    )  # fmt: skip
    yield Case(
        "cards.query_many", "a generator of bad ones", "usual",
        lambda c: drain(c.cards.query_many(iter(wrong))),
    )  # fmt: skip
    for concurrency in (8, 24, 64):
        for ordered in (False, True):
            yield Case(
                "cards.query_many",
                f"{concurrency} replies at once{', ordered' if ordered else ''}",
                "together",
                lambda c, n=concurrency, o=ordered: drain(
                    c.cards.query_many(some, concurrency=n, ordered=o)
                ),
                pause=0.002,
                in_flight=96,
            )
    for shape in ("map", "numbers"):
        yield Case(
            "cards.query_many", f"replies: {shape}", shape,
            lambda c: drain(c.cards.query_many(some)),
        )  # fmt: skip


def lines(count: int) -> list[OrderLine]:
    return [OrderLine(sku_id=45, price_id=441, other_order_id=f"ref-{n}") for n in range(count)]


def read_calls() -> dict[str, Call]:
    one = iccid(1)
    return {
        "cards.history": lambda c: c.cards.history(one),
        "cards.renewal_skus": lambda c: c.cards.renewal_skus(one),
        "cards.renewal_packages": lambda c: c.cards.renewal_packages(one),
        "catalogue.skus": lambda c: c.catalogue.skus(),
        "catalogue.sku_groups": lambda c: c.catalogue.sku_groups(),
        "catalogue.packages": lambda c: c.catalogue.packages(45),
        "partners.list": lambda c: c.partners.list(),
        "partners.skus": lambda c: c.partners.skus(1),
        "partners.packages": lambda c: c.partners.packages(1, 45),
        "orders.get": lambda c: c.orders.get("EP20260105000001"),
        "orders.search": lambda c: c.orders.search(other_order_id="ref"),
        "orders.usage": lambda c: c.orders.usage(iccid=one),
        "orders.pdf_links": lambda c: c.orders.pdf_links("EP20260105000001"),
        "call": lambda c: c.call("/api_esim/getPackages", {"skuId": 45}),
    }


def reads(short: bool) -> Iterator[Case]:
    """Replies of many rows; 20,000 of the largest kind are some 8 MiB."""
    for rows in (1, 100, 500) if short else (1, 100, 2_000, 20_000):
        for name, call in read_calls().items():
            per_row = 0.5 if name == "orders.get" else 0.45
            mib = max(1.0, rows * per_row / 1024)
            limit = LIMIT if rows <= 100 else LIMIT_PER_MIB * mib
            yield Case(name, f"a reply of {rows:,} rows", f"usual-{rows}", call, limit)
    rows = 20 if short else 2_000
    yield Case(
        "catalogue.crawl", f"a list of {rows:,} SKUs", f"usual-{rows // 10}",
        lambda c: drain(c.catalogue.crawl()),
    )  # fmt: skip


def purchases(short: bool) -> Iterator[Case]:
    for count in (1, 100, 500) if short else (1, 100, 1_000, 10_000):
        sims, spaced = clean(count), dirty(count)
        mib = max(1.0, count * 0.5 / 1024)
        limit = LIMIT if count <= 100 else LIMIT_PER_MIB * mib
        yield Case(
            "orders.place", f"{count:,} cards", f"usual-{count}",
            lambda c, n=count: c.orders.place(sku_id=45, price_id=441, count=n), limit,
        )  # fmt: skip
        yield Case(
            "orders.place", f"{count:,} SIMs to clean", "usual-1",
            lambda c, s=spaced: c.orders.place(
                sku_id=45, price_id=441, count=len(s), dp_id=1, iccids=s
            ),
        )  # fmt: skip
        for name in ("cancel", "pdf_links"):
            yield Case(
                f"orders.{name}", f"{count:,} ICCIDs", "usual-1",
                lambda c, n=name, i=sims: getattr(c.orders, n)("EP20260105000001", i),
            )  # fmt: skip
    for count in (1, 100) if short else (1, 100, 5_000):
        many = lines(count)
        yield Case(
            "orders.place_many", f"{count:,} lines", "usual-1",
            lambda c, m=many: drain(c.orders.place_many(m, max_spend=None)),
        )  # fmt: skip


def hostile(short: bool) -> Iterator[Case]:
    hundred = clean(100)

    def query(client: MioEsimClient) -> Awaitable[object]:
        return client.cards.query(hundred)

    def place(client: MioEsimClient) -> Awaitable[object]:
        return client.orders.place(sku_id=45, price_id=441, count=1)

    small = 1 if short else 16
    for kind, what in (
        (f"ones-{small}", f"{small} MiB of 1,1,1"),
        ("ones-1", "1 MiB of 1,1,1"),
        ("objects-1", "1 MiB of {},{}"),
        (f"foreign-{1_000 if short else 1_000_000}", "10^6 rows of other cards"),
        ("foreign-10000", "10,000 rows of other cards"),
        ("foreign-1000", "1,000 rows of other cards"),
        ("wide-1000", "rows of 1,000 unknown fields"),
        ("wide-150", "rows of 150 unknown fields"),
        ("floats-100", "rows of 100 floats"),
        ("deep-60", "values nested 60 levels"),
        ("deep-500", "values nested 500 levels"),
    ):
        yield Case("cards.query", what, kind, query)
    for kind in ("ones-1", "wide-10000", "wide-2000", "floats-5000", "deep-900"):
        yield Case("cards.detail", kind, kind, lambda c: c.cards.detail(hundred[0]))
    for kind in ("ones-1", f"order-{small}", "wide-1000"):
        yield Case("orders.place", kind, kind, place)
    mib = 1 if short else 7
    limit = LIMIT_PER_MIB * mib
    for kind in (f"packages-{mib}", f"ones-{mib}", f"objects-{mib}"):
        yield Case("catalogue.packages", kind, kind, lambda c: c.catalogue.packages(45), limit)


def cases(short: bool) -> Iterator[Case]:
    yield Case("login", "", "usual", lambda c: c.login())
    yield from sweeps(short)
    yield from reads(short)
    yield from purchases(short)
    yield from hostile(short)


async def measure(case: Case, url: str, folder: Path, times: int) -> float:
    """Make the call with a client that is logged in, and return the median stretch."""
    longest: list[float] = []
    for number in range(times):
        manager = SessionManager(limits=PoolLimits(total=200))
        async with (
            manager,
            MioEsimClient(
                Credentials("13800000000", "mypassword", "1234567890qwertyuiopasdfghjklzxc"),
                base_url=f"{url}/{case.host}",
                session_manager=manager,
                max_in_flight=case.in_flight,
                dialect=Dialect(signature="plain", login_encoding="form", read_method="POST"),
                retry=RetryPolicy(max_attempts=1),
                order_journal=OrderJournal(folder / f"{time.time_ns()}-{number}.db"),
            ) as client,
        ):
            await client.login()
            await client.cards.query(["8985000000000000000"]) if case.host == "usual" else None
            gc.collect()
            result: object = None
            async with Stretch(case.pause) as held:
                try:
                    result = await case.call(client)
                except errors.MioEsimError as error:
                    result = error
            # Freed outside the measurement, since the caller frees it.
            del result
            longest.append(held.longest)
    return statistics.median(longest)


async def run(short: bool, times: int, only: str) -> None:
    missed = 0
    with replies() as url, tempfile.TemporaryDirectory() as name:
        for case in cases(short):
            what = f"{case.name:25} {case.given:30}"
            if only not in what:
                continue
            held = await measure(case, url, Path(name), times)
            is_over = held > case.limit
            missed += is_over
            print(
                f"{what} {held:8.2f} ms (at most {case.limit:.0f}) {'MISSED' if is_over else ''}",
                flush=True,
            )
    print(f"{missed} calls blocked the loop for longer than their limit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--short", action="store_true", help="measure very little, to check that it runs"
    )
    parser.add_argument("--times", type=int, default=3, help="of each call")
    parser.add_argument("--only", default="", help="calls whose line holds this text")
    options = parser.parse_args()
    asyncio.run(run(options.short, options.times, options.only))


if __name__ == "__main__":
    main()
