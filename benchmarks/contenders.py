"""The same job done by each contender: 100 cards a request, eight requests at once."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from typing import Any
from urllib.parse import quote

import aiohttp
from attrs import define

from benchmarks.answers import ICCIDS_PER_BATCH, iccid
from mioesim_async import Credentials, Dialect, MioEsimClient

__all__ = ["CONTENDERS", "DETAILS", "Job", "batch", "make_client", "signed"]

CONCURRENCY = 8
QUERY = "/api_esim/queryIccidInformation"
DETAIL = "/api_esim/getESIMDetail"
KEY = "1234567890qwertyuiopasdfghjklzxc"
TOKEN = "29281-9EFE5E41"

Job = Callable[[list[list[str]]], Awaitable[int]]
"""Asks for batches of ICCIDs, and returns how many cards were found."""


def batch(number: int) -> list[str]:
    """Make the ICCIDs of one request, before the measurement."""
    first = number * ICCIDS_PER_BATCH
    return [iccid(one) for one in range(first, first + ICCIDS_PER_BATCH)]


def signed(params: dict[str, str]) -> dict[str, str]:
    """Sign as the vendor's Python sample does."""
    params = {**params, "token": TOKEN}
    text = "".join(sorted(f"{name}={value}" for name, value in params.items())) + KEY
    params["sign"] = hashlib.md5(quote(text, safe="").encode()).hexdigest().upper()
    return params


def make_client(url: str, **options: Any) -> MioEsimClient:
    # All contenders sign with the encoded scheme, as the vendor's sample does.
    dialect = Dialect(signature="encoded", login_encoding="form", read_method="GET")
    return MioEsimClient(
        Credentials("13800000000", "mypassword", KEY), base_url=url, dialect=dialect, **options
    )


async def concurrently(ask: Callable[[list[str]], Awaitable[int]], batches: list[list[str]]) -> int:
    """Ask for the batches with ``CONCURRENCY`` workers."""
    left = iter(batches)

    async def work() -> int:
        return sum([await ask(iccids) for iccids in left])

    return sum(await asyncio.gather(*[work() for _ in range(CONCURRENCY)]))


@asynccontextmanager
async def floor(url: str) -> AsyncGenerator[Job]:
    """A GET whose reply is only read: nothing is signed or decoded."""
    async with aiohttp.ClientSession() as session:

        async def ask(iccids: list[str]) -> int:
            async with session.get(f"{url}{QUERY}?iccids={','.join(iccids)}") as response:
                await response.read()
                return len(iccids)

        yield lambda batches: concurrently(ask, batches)


class Status(enum.StrEnum):
    """The vendor's documented states of a profile."""

    ACTIVE = "ACTIVE"
    ENABLE = "Enable"
    DISABLE = "Disable"
    DELETE = "Delete"


@define
class TypedCard:
    """A typed card, for rows that are all well-formed."""

    iccid: str
    status: Status
    used_mb: float
    remaining_mb: float
    total_mb: float
    starts_at: dt.datetime
    ends_at: dt.datetime
    order_num: str
    sku_id: int

    @classmethod
    def of(cls, row: dict[str, Any]) -> TypedCard:
        return cls(
            iccid=row["iccid"],
            status=Status(row["dpStatus"]),
            used_mb=float(row["usedMB"]),
            remaining_mb=float(row["remainingMB"]),
            total_mb=float(row["data"].removesuffix("GB")) * 1024,
            # A zone in the text is ten times faster than replace(tzinfo=...) on Python 3.11.
            starts_at=dt.datetime.fromisoformat(row["startDate"] + "+08:00"),
            ends_at=dt.datetime.fromisoformat(row["endDate"] + " 23:59:59.999999+08:00"),
            order_num=row["orderNum"],
            sku_id=row["skuId"],
        )


def count_dicts(rows: list[dict[str, Any]]) -> int:
    found = 0
    for card in rows:
        found += card["iccid"] is not None
    return found


def count_typed(rows: list[dict[str, Any]]) -> int:
    found = 0
    for card in [TypedCard.of(row) for row in rows]:
        found += card.iccid is not None
    return found


@asynccontextmanager
async def hand_written(
    count: Callable[[list[dict[str, Any]]], int], url: str
) -> AsyncGenerator[Job]:
    """A hand-written client: one session, the vendor's signature, and a use of the rows."""
    async with aiohttp.ClientSession() as session:

        async def ask(iccids: list[str]) -> int:
            params = signed({"iccids": ",".join(iccids)})
            async with session.get(url + QUERY, params=params) as response:
                reply = await response.json()
            if reply["code"] != 0:
                raise RuntimeError(reply["message"])
            return count(reply["data"])

        yield lambda batches: concurrently(ask, batches)


@asynccontextmanager
async def query(url: str) -> AsyncGenerator[Job]:
    """``client.cards.query``, with the same workers."""
    async with make_client(url) as client:

        async def ask(iccids: list[str]) -> int:
            found = 0
            for card in await client.cards.query(iccids):
                found += card.iccid is not None
            return found

        yield lambda batches: concurrently(ask, batches)


@asynccontextmanager
async def query_many(url: str) -> AsyncGenerator[Job]:
    """``client.cards.query_many``, reading every outcome."""
    async with make_client(url) as client:

        async def job(batches: list[list[str]]) -> int:
            found = 0
            iccids = [*chain.from_iterable(batches)]
            async with client.cards.query_many(iccids, concurrency=CONCURRENCY) as outcomes:
                async for outcome in outcomes:
                    found += outcome.card is not None
            return found

        yield job


@asynccontextmanager
async def httpx_pydantic(url: str) -> AsyncGenerator[Job]:
    """httpx, with pydantic models read from the reply's bytes."""
    import httpx
    from pydantic import BaseModel, Field

    class Card(BaseModel):
        iccid: str
        dp_status: str = Field(alias="dpStatus")
        used_mb: float = Field(alias="usedMB")
        data: str
        remaining_mb: float = Field(alias="remainingMB")
        order_num: str = Field(alias="orderNum")
        sku_id: int = Field(alias="skuId")
        start_date: dt.datetime = Field(alias="startDate")
        end_date: dt.datetime = Field(alias="endDate")
        validity: int

    class Reply(BaseModel):
        code: int
        message: str
        data: list[Card]

    async with httpx.AsyncClient() as session:

        async def ask(iccids: list[str]) -> int:
            response = await session.get(url + QUERY, params=signed({"iccids": ",".join(iccids)}))
            found = 0
            for card in Reply.model_validate_json(response.content).data:
                found += card.iccid is not None
            return found

        yield lambda batches: concurrently(ask, batches)


@asynccontextmanager
async def requests_sample(url: str) -> AsyncGenerator[Job]:
    """As in the vendor's sample: requests, one call after the other, a connection for each."""
    import requests

    async def job(batches: list[list[str]]) -> int:
        found = 0
        for iccids in batches:
            params = signed({"iccids": ",".join(iccids)})
            reply = requests.get(url + QUERY, params=params, timeout=30).json()
            for card in reply["data"]:
                found += card["iccid"] is not None
        return found

    yield job


CONTENDERS = {
    "query_many": query_many,
    "query": query,
    "hand-written": partial(hand_written, count_dicts),
    "typed hand-written": partial(hand_written, count_typed),
    "floor": floor,
    "httpx + pydantic": httpx_pydantic,
    "requests": requests_sample,
}


def code_of_dict(row: dict[str, Any]) -> str:
    code: str = row["code"]
    return code


def code_of_typed(row: dict[str, Any]) -> str:
    card, code = TypedCard.of(row), code_of_dict(row)
    return code if card.iccid else ""


@asynccontextmanager
async def hand_written_detail(
    read: Callable[[dict[str, Any]], str], url: str
) -> AsyncGenerator[Job]:
    """One call after the other, over one session."""
    async with aiohttp.ClientSession() as session:

        async def job(batches: list[list[str]]) -> int:
            for asked, *_ in batches:
                params = signed({"iccid": asked})
                async with session.get(url + DETAIL, params=params) as response:
                    reply = await response.json()
                if reply["code"] != 0 or reply["data"]["iccid"] != asked:
                    raise RuntimeError(reply["message"])
                assert read(reply["data"])
            return len(batches)

        yield job


@asynccontextmanager
async def detail(url: str) -> AsyncGenerator[Job]:
    """``client.cards.detail``, one call after the other."""
    async with make_client(url) as client:

        async def job(batches: list[list[str]]) -> int:
            for asked, *_ in batches:
                card = await client.cards.detail(asked)
                assert card.activation is not None
            return len(batches)

        yield job


DETAILS = {
    "detail": detail,
    "hand-written detail": partial(hand_written_detail, code_of_dict),
    "typed hand-written detail": partial(hand_written_detail, code_of_typed),
}
