"""The sandbox's server."""

from __future__ import annotations

import asyncio
import email.utils
import socket
import threading
import weakref
from collections.abc import Collection, Coroutine
from datetime import datetime
from functools import partial
from math import inf
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson
from aiohttp import web
from attrs import evolve

from mioesim_async.client import MioEsimClient
from mioesim_async.closing import Closing
from mioesim_async.errors import ConfigurationError
from mioesim_async.sandbox.cards import AccountCards
from mioesim_async.sandbox.clock import SandboxClock
from mioesim_async.sandbox.faults import Fault, Faults
from mioesim_async.sandbox.http import abort, disconnected, read_params, send, send_huge
from mioesim_async.sandbox.oddities import ABSENT
from mioesim_async.sandbox.orders import FOREIGN_ORDER_NUM, FORMS, SEARCHES, AccountOrders
from mioesim_async.sandbox.recorded import RecordedRequest, SandboxMail, SandboxOrder
from mioesim_async.sandbox.vendor import ACCOUNT, HANDLED_PATHS, POST_PATHS, SHAPES, Vendor
from mioesim_async.wire.dialect import LoginEncoding, ReadMethod, SignatureScheme
from mioesim_async.wire.endpoints import LOGIN

__all__ = ["Sandbox"]

NOT_FOUND = "<!DOCTYPE html><html><title>404</title><body>No such page</body></html>"
SHUTDOWN_SECONDS = 0.05
TURNS_TO_SET_UP = 5
OVER_CAPACITY = evolve(Fault.http(429), name="over capacity")

T = TypeVar("T")


def _check(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ConfigurationError(f"{name} must be one of {', '.join(known)}; not {value!r}")


class Sandbox(Closing):
    """A server on loopback that behaves like the vendor, for one made-up account.

    In async code ``async with Sandbox() as sandbox:`` runs it in the running loop; elsewhere
    ``with Sandbox() as sandbox:`` runs it in a thread of its own.

    Attributes:
        credentials: The account that can log in.
        iccids: Its cards; eSIMs that are ordered come at the end.
        orders: The orders and renewals that were placed, oldest first.
        mails: The mails with PDFs that were asked for, oldest first.
        stock: How many cards are left, by SKU and price id; a plan that is not listed is
            unlimited.
        foreign_order_num: Number of an order of another account.
        requests: What the server saw, oldest first.
        faults: What goes wrong.
        clock: Its time; a token lives for two hours of it.
        refused: ICCIDs for which a whole batch is refused, each with the code.
    """

    def __init__(
        self,
        cards: int = 1000,
        seed: int = 0,
        *,
        signature: SignatureScheme | None = None,
        login_encoding: LoginEncoding | None = None,
        read_method: ReadMethod | None = None,
        batch_parameter: str = "iccids",
        shape: str = "list",
        order_form: str = "order",
        search: str = "by reference",
        text_codes: bool = False,
        odd: bool = False,
        clock: SandboxClock | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        record: bool = True,
        capacity: int | None = None,
    ) -> None:
        """Configure the sandbox; nothing is listening yet.

        Args:
            cards: How many cards the account has.
            seed: Another seed makes other cards.
            signature: The one scheme that is accepted; None accepts both.
            login_encoding: The one way to log in that is accepted; None accepts all.
            read_method: The one method of reads that is accepted; None accepts both.
            batch_parameter: Name of the parameter that takes the ICCIDs of a batch.
            shape: Of a batch reply: ``list``, ``map`` (by ICCID), ``list in object`` or
                ``map in object``.
            order_form: Of the reply to orders and renewals: ``order`` (what ``backInfo`` asks
                for) or, whatever it asks for, ``number`` (bare), ``object with number only``,
                ``list`` (of the order), ``strange`` (the order nested deeply), or ``nothing``
                (null).
            search: What a search returns: ``by reference`` (the orders with it), ``ignores
                references`` (all orders of the date range, without their references) or
                ``lists all`` (all orders of the date range, with their references).
            text_codes: Write codes as text, and ``message`` as ``msg``.
            odd: Also write all other spellings and types that a client must read: prices as text,
                ``note`` null, ``usedMb`` as a number, ``skuId`` for ``skuid``, Dto and Vo lists,
                rows with fields missing, and the others that ``docs/wire.md`` lists (each with how
                sure it is). By default each field has one spelling and one type: the documented
                one, or else the one that was observed most clearly.
            clock: The clock; a new one if None.
            host: Address to listen on.
            port: Port to listen on; 0 for a free one.
            record: Keep every request in ``requests``.
            capacity: Most calls that may be under way at once; None for no limit.

        Raises:
            ConfigurationError: If an argument can't work.
        """
        if cards < 0:
            raise ConfigurationError(f"cards must be 0 or more, not {cards}")
        _check("shape", shape, SHAPES)
        _check("order_form", order_form, FORMS)
        _check("search", search, SEARCHES)
        self.credentials = ACCOUNT
        self.clock = clock or SandboxClock()
        self.faults = Faults(self.clock)
        self.requests: list[RecordedRequest] = []
        account_cards = AccountCards(cards, seed, self.clock)
        self._cards = account_cards
        account_orders = AccountOrders(account_cards, self.clock, form=order_form, search=search)
        self.orders: list[SandboxOrder] = account_orders.placed
        self.mails: list[SandboxMail] = account_orders.mails
        self.stock: dict[tuple[int, int], int] = account_orders.stock
        self.foreign_order_num = FOREIGN_ORDER_NUM
        self._vendor = Vendor(
            account_cards,
            account_orders,
            self.clock,
            seed=seed,
            signature=signature,
            batch_parameter=batch_parameter,
            shape=shape,
            odd=odd,
        )
        self.refused = self._vendor.refused
        self.iccids = account_cards.iccids
        self._login_encoding = login_encoding
        self._read_method = read_method
        self._text_codes = text_codes
        self.capacity = capacity
        self._under_way = 0
        self._address = (host, port)
        self._record = record
        self._runner: web.AppRunner | None = None
        self._url = ""
        self._connections: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._connected = 0
        self._listener: socket.socket | None = None
        self._waiting: set[asyncio.Future[Any]] = set()
        self._thread: threading.Thread | None = None
        self._thread_loop: asyncio.AbstractEventLoop | None = None

    # Starting and stopping.

    @property
    def url(self) -> str:
        """The base URL.

        Raises:
            ConfigurationError: If the sandbox does not run.
        """
        if not self._url:
            raise ConfigurationError("the sandbox does not run; use it with 'async with'")
        return self._url

    @property
    def capacity(self) -> int | None:
        """Most calls that may be under way at once: any more are answered 429.

        None for no limit. It may change at any time. A call is under way from its arrival
        until its answer is ready to be sent, delays and slow bodies included.

        Raises:
            ConfigurationError: If it is set to less than 0.
        """
        return self._capacity

    @capacity.setter
    def capacity(self, calls: int | None) -> None:
        if calls is not None and calls < 0:
            raise ConfigurationError(f"capacity must be 0 or more, or None, not {calls}")
        self._capacity = calls

    @property
    def under_way(self) -> int:
        """How many calls are being answered."""
        return self._under_way

    @property
    def logins(self) -> int:
        """How many logins succeeded so far."""
        return self._vendor.logins

    @property
    def connections(self) -> int:
        """How many connections sent a request so far."""
        return self._connected

    def client(self, **arguments: Any) -> MioEsimClient:
        """Return a client for this sandbox and its account."""
        arguments.setdefault("clock", self.clock)
        return MioEsimClient(self.credentials, base_url=self.url, **arguments)

    @property
    def environ(self) -> dict[str, str]:
        """What ``MioEsimClient.from_env`` and the command need, as environment variables."""
        account = self.credentials
        return {
            "MIOESIM_BASE_URL": self.url,
            "MIOESIM_PHONE_NUMBER": account.phone_number,
            "MIOESIM_PASSWORD": account.password,
            "MIOESIM_SECRET_KEY": account.secret_key,
        }

    def set_card(
        self,
        iccid: str,
        *,
        dp_status: str | None = None,
        used_mb: float | None = None,
        ends_at: datetime | None = None,
    ) -> None:
        """Set what a card's row says from now on; what is None is as its plan has it.

        Args:
            iccid: One of ``iccids``.
            dp_status: Its status, such as ``Disable``; any text.
            used_mb: Data used, in MB; what remains follows.
            ends_at: The end of its plan; with a time zone.

        Raises:
            ConfigurationError: If there is no such card, or a value can't be.
        """
        if iccid not in self._cards:
            raise ConfigurationError(f"the sandbox has no card {iccid}")
        if used_mb is not None and not 0 <= used_mb < inf:
            raise ConfigurationError(f"used_mb must be 0 or more, not {used_mb}")
        if ends_at is not None and ends_at.tzinfo is None:
            raise ConfigurationError("ends_at needs a time zone")
        self._cards.set(iccid, dp_status, used_mb, ends_at)

    def evict(self) -> None:
        """End the live token, as another login on the account would."""
        self._vendor.evict()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: If the port is taken.
        """
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_response_prepare.append(self._set_date_header)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        host, port = self._address
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family)
            await web.SockSite(runner, self._listener).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self._url = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    async def aclose(self) -> None:
        """Stop listening and close every connection."""
        runner, self._runner = self._runner, None
        self._url = ""
        if runner is not None and self._listener is not None:
            # Accept no more connections, and give the accepted ones a few turns to be set up:
            # cleanup() would not close one that is set up later. Other event loops have no
            # readers, and set a connection up at once.
            loop = asyncio.get_running_loop()
            if isinstance(loop, asyncio.SelectorEventLoop):
                loop.remove_reader(self._listener.fileno())
            for _ in range(TURNS_TO_SET_UP):
                await asyncio.sleep(0)
        # A call goes on after its client has disconnected, as at the vendor; this ends it.
        for waiting in self._waiting:
            waiting.cancel()
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.start()
        return self

    def __enter__(self) -> Self:
        """Listen, in a thread of its own."""
        loop = self._thread_loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="mioesim sandbox")
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.start(), loop).result()
        except BaseException:
            self._stop_thread()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, and end the thread."""
        if self._thread_loop is not None:
            asyncio.run_coroutine_threadsafe(self.aclose(), self._thread_loop).result()
        self._stop_thread()

    def _stop_thread(self) -> None:
        loop, thread = self._thread_loop, self._thread
        self._thread_loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    # One request.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._under_way += 1
        try:
            return await self._reply(request)
        finally:
            self._under_way -= 1

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        endpoint = request.path.rpartition("/")[2]
        is_too_much = self.capacity is not None and self._under_way > self.capacity
        params = await read_params(request)
        seen = RecordedRequest(
            endpoint,
            request.method,
            params,
            request.headers.get("User-Agent", ""),
            "Cookie" in request.headers,
            self._connection_number(request),
            self.clock.time(),
        )
        if self._record:
            self.requests.append(seen)
        fault = OVER_CAPACITY if is_too_much else self.faults.take(endpoint)
        if fault is None:
            return self._vendor_reply(request, params, seen, None)
        seen.fault = fault.name
        return await self._reply_with_fault(fault, request, params, seen)

    async def _reply_with_fault(
        self, fault: Fault, request: web.Request, params: dict[str, str], seen: RecordedRequest
    ) -> web.StreamResponse:
        """Answer a call with a fault; the call takes effect at most once."""
        answered = self._vendor_reply(request, params, seen, None) if fault.effect else None
        if fault.delay:
            await self._wait(self.clock.sleep(fault.delay))
        if fault.evict:
            self.evict()
        if fault.silent:
            await self._wait(disconnected(request))
        if fault.silent or fault.close == "before":
            return abort(request)
        if fault.body is not None:
            return web.Response(
                status=fault.status,
                body=fault.body,
                content_type=fault.content_type,
                headers=dict(fault.headers),
            )
        if fault.size:
            return await send_huge(request, fault)
        response = answered
        if response is None or fault.code is not None:
            response = self._vendor_reply(request, params, seen, fault)
        if fault.close == "after":
            return abort(request)
        if fault.is_in_delivery and isinstance(response.body, bytes):
            pause = partial(self.clock.sleep, fault.pause)
            return await self._wait(send(request, response.body, fault, pause))
        return response

    async def _wait(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Wait for something that takes long; closing the sandbox cancels it."""
        task = asyncio.ensure_future(waiting)
        self._waiting.add(task)
        try:
            return await task
        finally:
            self._waiting.discard(task)

    async def _set_date_header(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = email.utils.formatdate(self.clock.time(), usegmt=True)

    def _connection_number(self, request: web.Request) -> int:
        transport = request.transport
        if transport not in self._connections:
            self._connected += 1
            self._connections[transport] = self._connected
        return self._connections[transport]

    def _vendor_reply(
        self,
        request: web.Request,
        params: dict[str, str],
        seen: RecordedRequest,
        fault: Fault | None,
    ) -> web.Response:
        path = request.path
        if path not in HANDLED_PATHS and (fault is None or fault.code is None):
            return web.Response(status=404, text=NOT_FOUND, content_type="text/html")
        if path == LOGIN.path:
            refused = self._wrong_login_encoding(request)
        else:
            is_read = self._read_method is not None and path not in POST_PATHS
            refused = is_read and self._read_method != request.method
        if refused:
            json_wanted = path == LOGIN.path and request.method == "POST"
            status = 415 if json_wanted and self._login_encoding != "query" else 405
            return web.Response(status=status, text=NOT_FOUND, content_type="text/html")
        code, message, data = self._vendor.answer(path, params, fault)
        seen.code = code
        envelope = (
            {"code": str(code), "msg": message}
            if self._text_codes
            else {"code": code, "message": message}
        )
        if data is not ABSENT:
            envelope["data"] = data
        return web.Response(body=orjson.dumps(envelope), content_type="application/json")

    def _wrong_login_encoding(self, request: web.Request) -> bool:
        if self._login_encoding is None:
            return request.method not in ("GET", "POST")
        json = request.content_type == "application/json"
        came = "query" if request.method == "GET" else "json" if json else "form"
        return came != self._login_encoding
