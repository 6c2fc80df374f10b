"""A small server that answers searches for orders as the test says."""

from __future__ import annotations

import asyncio
import datetime as dt
import email.utils
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from attrs import define, field

from mioesim_async import Credentials, MioEsimClient
from mioesim_async.sandbox import SandboxClock

ACCOUNT = Credentials(phone_number="13800000000", password="made-up", secret_key="made-up-key")
DAY = dt.date(2026, 3, 31)
"""The day of the last orders."""

Params = dict[str, str]
Rows = list[dict[str, Any]]
Answer = Callable[[Params], Any]


def rows(*counts: int, references: bool = True) -> Rows:
    """Return orders, newest first; each count is of one day, the last count of the last day."""
    made: Rows = []
    for back, count in enumerate(reversed(counts)):
        day = DAY - dt.timedelta(days=back)
        for place in reversed(range(count)):
            row = {"orderNum": f"EP{day:%Y%m%d}{place:06}", "purchaseDate": f"{day} 12:00:00"}
            made.append(row | {"otherOrderId": f"{day}-{place}"} if references else row)
    return made


def day_of(row: dict[str, Any]) -> dt.date:
    return dt.date.fromisoformat(row["purchaseDate"][:10])


def asked_day(params: Params, name: str, default: dt.date) -> dt.date:
    if name not in params:
        return default
    month, day, year = params[name].split("/")
    return dt.date(int(year), int(month), int(day))


@define
class Vendor:
    """Answers searches as a vendor might.

    Attributes:
        rows: Its orders.
        cap: The most orders that it returns, whatever size is asked for.
        fixed: How many orders it returns, whatever size is asked for; None if it uses the size.
        heeds_days: Whether it uses the days that are asked for.
        total: Returns the ``total`` of a reply, for the number of orders that were found and of
            those that are returned; None for a reply that is only a list.
        change: Changes the orders that were found, given the number of the call.
    """

    rows: Rows
    cap: int = 10**9
    fixed: int | None = None
    heeds_days: bool = True
    total: Callable[[int, int], Any] = lambda found, _: found
    change: Callable[[Rows, int], Rows] = lambda found, _: found
    calls: int = 0

    def __call__(self, params: Params) -> Any:
        self.calls += 1
        first = asked_day(params, "startDate", dt.date.min)
        last = asked_day(params, "endDate", dt.date.max)
        found = [row for row in self.rows if not self.heeds_days or first <= day_of(row) <= last]
        found = self.change(found, self.calls)
        size = int(params["pageSize"]) if self.fixed is None else self.fixed
        shown = found[: min(size, self.cap)]
        total = self.total(len(found), len(shown))
        return shown if total is None else {"total": total, "rows": shown}


@define
class OrderHost:
    """The server.

    Attributes:
        answer: Returns the ``data`` of each search, or a code as a number to refuse it.
        url: Its URL.
        asked: The parameters of each search.
        clock: The clients' clock.
        date: Returns the header ``Date`` of each reply, or None to leave it out.
        held: An event that searches wait for before they are answered.
    """

    answer: Answer
    url: str = ""
    asked: list[Params] = field(factory=list)
    clock: SandboxClock = field(factory=lambda: SandboxClock(skip_sleeps=True))
    date: Callable[[], str | None] = email.utils.formatdate
    held: asyncio.Event = field(factory=asyncio.Event)

    def client(self, **options: Any) -> MioEsimClient:
        """Return a client of this host."""
        options.setdefault("clock", self.clock)
        return MioEsimClient(ACCOUNT, base_url=self.url, **options)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call."""
        if request.path.endswith("/login"):
            return _json({"code": 1, "data": {"token": "1-MADEUP"}})
        params = {name: str(value) for name, value in (await request.post()).items()}
        if not request.path.endswith("/queryOrder"):
            return _json({"code": 3, "message": "no such order"})
        self.asked.append(params)
        await self.held.wait()
        data = self.answer(params)
        if isinstance(data, web.Response):
            return data
        return _json({"code": data} if type(data) is int else {"code": 0, "data": data})

    async def stamp(self, _: web.Request, response: web.StreamResponse) -> None:
        """Set the header ``Date`` that the test wants."""
        date = self.date()
        del response.headers["Date"]
        if date is not None:
            response.headers["Date"] = date


def _json(reply: dict[str, Any]) -> web.Response:
    return web.Response(text=json.dumps(reply), content_type="application/json")


@pytest.fixture
async def host() -> AsyncIterator[OrderHost]:
    """A host without orders."""
    running = OrderHost(Vendor([]))
    running.held.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", running.handle)
    app.on_response_prepare.append(running.stamp)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address, port = runner.addresses[0][:2]
    running.url = f"http://{address}:{port}"
    yield running
    running.held.set()
    await runner.cleanup()
