"""An HTTP face of a sandbox for tests in other processes: read what it saw, and steer it."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from math import isfinite
from typing import Any

from aiohttp import web
from attrs import fields

from mioesim_async.closing import Closing
from mioesim_async.errors import ConfigurationError, MioEsimError
from mioesim_async.models.plain import to_dict
from mioesim_async.sandbox.fault_specs import parse_fault
from mioesim_async.sandbox.recorded import RecordedRequest, SandboxOrder
from mioesim_async.sandbox.server import Sandbox

__all__ = ["SandboxControl"]

HOST = "127.0.0.1"
MAX_BODY = 64 * 1024
SECRETS = frozenset({"token", "sign", "password"})
"""Parameters of a request that are masked."""

MASK = "***"
ORDER_FIELDS = [one.name for one in fields(SandboxOrder) if one.name not in ("clock", "refunds")]
REQUEST_FIELDS = [one.name for one in fields(RecordedRequest) if one.name != "params"]
CARD_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "dp_status": str,
    "used_mb": float,
    "ends_at": datetime.fromisoformat,
}
"""What may be set of a card, and what reads it from JSON."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SandboxControl(Closing):
    """Reads and steers a sandbox over HTTP, on a loopback port of its own.

    ::

        async with Sandbox() as sandbox, SandboxControl(sandbox) as control:
            print(control.url, control.token)

    Each request needs the header ``Authorization: Bearer TOKEN`` and the right ``Host``, so that
    no web page can send one. Bodies and replies are JSON; an error is ``{"error": "..."}``.

    - ``GET /orders``: the orders and renewals that were placed, oldest first.
    - ``GET /requests?after=N``: what the sandbox saw after its first N requests, without secrets.
    - ``GET /clock``, ``POST /clock {"advance": 3600}``: the sandbox's time; moves it, in seconds.
    - ``POST /faults {"fault": "http=503@login*2"}``: adds a fault, as ``mioesim sandbox --fault``.
    - ``DELETE /faults``: removes all faults.
    - ``PATCH /cards/ICCID {"used_mb": 900, "dp_status": "Disable", "ends_at": "2027-..."}``: sets
      what a card's row says, as ``Sandbox.set_card``.
    - ``POST /evict``: ends the live token, as another login would.

    Attributes:
        token: The token that every request needs; random.
    """

    def __init__(self, sandbox: Sandbox, *, port: int = 0) -> None:
        """Control a sandbox; nothing is listening yet.

        Args:
            sandbox: The sandbox, which runs in this event loop.
            port: Port to listen on; 0 for a free one.
        """
        self.token = secrets.token_urlsafe(24)
        self._sandbox = sandbox
        self._port = port
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL.

        Raises:
            ConfigurationError: If it does not run.
        """
        if self._runner is None:
            raise ConfigurationError("the control does not run; use it with 'async with'")
        return f"http://{HOST}:{self._runner.addresses[0][1]}"

    @property
    def environ(self) -> dict[str, str]:
        """What another process needs, as environment variables."""
        return {"MIOESIM_SANDBOX_CONTROL": self.url, "MIOESIM_SANDBOX_TOKEN": self.token}

    async def __aenter__(self) -> SandboxControl:
        """Listen.

        Raises:
            OSError: If the port is taken.
        """
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._check])
        app.add_routes(
            [
                web.get("/orders", self._orders),
                web.get("/requests", self._requests),
                web.get("/clock", self._clock),
                web.post("/clock", self._advance),
                web.post("/faults", self._add_fault),
                web.delete("/faults", self._clear_faults),
                web.patch("/cards/{iccid}", self._set_card),
                web.post("/evict", self._evict),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self._port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        return self

    async def aclose(self) -> None:
        """Stop listening."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        # A page in a browser could reach the port under a name of its own.
        if f"http://{request.host}" != self.url:
            return _refused(421, f"ask for it at {self.url}")
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            return _refused(401, "send the header Authorization: Bearer TOKEN")
        try:
            return await handler(request)
        except (KeyError, TypeError, ValueError, MioEsimError) as error:
            return _refused(400, str(error))
        except web.HTTPException as error:
            return _refused(error.status, error.reason)

    async def _orders(self, _: web.Request) -> web.Response:
        return web.json_response([_order(one) for one in self._sandbox.orders])

    async def _requests(self, request: web.Request) -> web.Response:
        after = int(request.query.get("after", "0"))
        if after < 0:
            raise ValueError("after must be 0 or more")
        return web.json_response([_seen(one) for one in self._sandbox.requests[after:]])

    async def _clock(self, _: web.Request) -> web.Response:
        return web.json_response({"time": self._sandbox.clock.time()})

    async def _advance(self, request: web.Request) -> web.Response:
        seconds = float((await _body(request, "advance"))["advance"])
        if not isfinite(seconds):
            # JSON has no such numbers, but Python reads them.
            raise ValueError("advance must be a number of seconds")
        self._sandbox.clock.advance(seconds)
        return await self._clock(request)

    async def _add_fault(self, request: web.Request) -> web.Response:
        spec = parse_fault(str((await _body(request, "fault"))["fault"]))
        self._sandbox.faults.add(spec.fault, spec.endpoint, times=spec.times)
        return web.json_response({"fault": spec.fault.name})

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._sandbox.faults.clear()
        return web.json_response({})

    async def _set_card(self, request: web.Request) -> web.Response:
        given = await _body(request, *CARD_FIELDS)
        iccid = request.match_info["iccid"]
        values: dict[str, Any] = {name: CARD_FIELDS[name](given[name]) for name in given}
        self._sandbox.set_card(iccid, **values)
        return web.json_response({"iccid": iccid})

    async def _evict(self, _: web.Request) -> web.Response:
        self._sandbox.evict()
        return web.json_response({})


async def _body(request: web.Request, *names: str) -> dict[str, Any]:
    """Return the JSON object in a request.

    Raises:
        ValueError: If it is none, or has other members.
    """
    given = json.loads(await request.text() or "{}")
    if not isinstance(given, dict) or not given or not given.keys() <= {*names}:
        raise ValueError(f"the body must be a JSON object with {' or '.join(names)}")
    return given


def _refused(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


def _order(order: SandboxOrder) -> dict[str, Any]:
    values: dict[str, Any] = to_dict({name: getattr(order, name) for name in ORDER_FIELDS})
    return values | {"status": order.status.name}


def _seen(request: RecordedRequest) -> dict[str, Any]:
    params = {name: MASK if name in SECRETS else value for name, value in request.params.items()}
    return {name: getattr(request, name) for name in REQUEST_FIELDS} | {"params": params}
