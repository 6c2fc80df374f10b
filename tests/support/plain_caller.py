"""A client of plain aiohttp with its own implementation of the signature schemes.

Tests of the sandbox use it, so that the package's client and sandbox can't share a mistake.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from attrs import define

from mioesim_async.sandbox import Sandbox

LOGIN = "/api_order/login"
QUERY = "/api_esim/queryIccidInformation"
DETAIL = "/api_esim/getESIMDetail"
ONE_CARD = (
    DETAIL,
    "/api_esim/getHistoryDetail",
    "/api_esim/getIccidSupportSku",
    "/api_esim/getIccidSupportPackageInfo",
)

Params = dict[str, str]
Signer = Callable[[Params, str], str]


def plain(params: Params, key: str) -> str:
    """Sign by the scheme that the vendor describes in prose."""
    joined = "".join(sorted(f"{name}={value}" for name, value in params.items())) + key
    return hashlib.md5(joined.encode()).hexdigest()


def encoded(params: Params, key: str) -> str:
    """Sign by the scheme of the vendor's Python sample."""
    joined = "".join(sorted(f"{name}={value}" for name, value in params.items())) + key
    return hashlib.md5(quote(joined, safe="").encode()).hexdigest().upper()


@define
class Reply:
    """A reply."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> Any:
        return self.json["code"]

    @property
    def data(self) -> Any:
        return self.json["data"]


@define
class Wire:
    """Sends the parameters that a test gives, signed or not."""

    http: aiohttp.ClientSession
    sandbox: Sandbox
    token: str = ""

    async def send(self, path: str, params: Params, *, method: str = "GET", as_: str = "") -> Reply:
        """Send exactly these parameters: in the query of a GET, else in a form or as JSON."""
        place = as_ or ("params" if method == "GET" else "data")
        request = self.http.request(
            method, self.sandbox.url + path, allow_redirects=False, **{place: params}
        )
        async with request as response:
            return Reply(response.status, response.headers, await response.read())

    async def login(
        self, *, signer: Signer = plain, method: str = "POST", as_: str = "", **changed: str
    ) -> Reply:
        """Log in, with some parameters changed before they are signed."""
        account = self.sandbox.credentials
        params = {"phonenumber": account.phone_number, "password": account.password} | changed
        params["sign"] = signer(params, account.secret_key)
        reply = await self.send(LOGIN, params, method=method, as_=as_)
        if reply.status == 200 and reply.body.startswith(b'{"code":1,'):
            self.token = reply.data["token"]
        return reply

    async def read(
        self, path: str, *, signer: Signer = plain, method: str = "GET", **params: str
    ) -> Reply:
        """Make a signed call with the last token."""
        sent = {"token": self.token} | {name: text for name, text in params.items() if text}
        sent["sign"] = signer(sent, self.sandbox.credentials.secret_key)
        return await self.send(path, sent, method=method)

    async def query(self, *iccids: str, method: str = "GET") -> Reply:
        """Ask for a batch of cards."""
        return await self.read(QUERY, iccids=",".join(iccids), method=method)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that reuses no connection, so that aiohttp itself never sends a request again."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as running:
        yield running


@pytest.fixture
async def wire(http: aiohttp.ClientSession, sandbox: Sandbox) -> Wire:
    """A logged-in caller; the clock skips sleeps."""
    caller = Wire(http, sandbox)
    assert (await caller.login()).code == 1
    return caller
