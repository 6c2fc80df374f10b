"""The session manager: a pool of connections that clients may share."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl as ssl_module
import weakref
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp
from yarl import URL

from mioesim_async._version import __version__
from mioesim_async.closing import Closing, is_being_cancelled
from mioesim_async.config import PoolLimits, Timeouts
from mioesim_async.errors import (
    ClientClosed,
    ConfigurationError,
    ConnectError,
    MioEsimError,
    WrongLoop,
)
from mioesim_async.slices import in_slices
from mioesim_async.transport.attempt_timer import Progress
from mioesim_async.transport.http import Excerpts, RawReply, Request, explain, unusable_url
from mioesim_async.wire.envelope import too_large

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult
    from aiohttp.connector import Connection

__all__ = ["SessionManager", "running_loop"]

logger = logging.getLogger("mioesim_async")

HEADERS = {"User-Agent": f"mioesim-async/{__version__}", "Accept": "application/json"}
LONGEST_KEEPALIVE = 24 * 60 * 60.0
MAX_ERROR_BODY_BYTES = 64 * 1024
MAX_PURCHASE_BYTES = 32 * 1024 * 1024
"""How many bytes of a reply to a purchase are searched for the order number."""

MAX_UNASKED = 20
"""How many connections in a row may hold unrequested bytes before the attempt fails."""

UNASKED_BYTES = "the host sends bytes before it gets a request, so nothing was sent"
CLOSED = "closed while a call was under way"
AIOHTTP_ERRORS = (aiohttp.ClientError, OSError, RuntimeError, UnicodeError)
NEVER_SENT = (ConnectError, ConfigurationError, WrongLoop)
NO_REPORTS = (
    f"aiohttp {aiohttp.__version__} does not report when it sends a request, so a purchase could "
    "be sent twice, and none is sent at all; install another version of aiohttp, or a later one "
    "of mioesim_async"
)

_progress: ContextVar[tuple[Progress, SessionManager] | None] = ContextVar(
    "mioesim_async_progress", default=None
)


def running_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop of the running task.

    Raises:
        WrongLoop: If no asyncio task runs, as under trio.
    """
    try:
        if asyncio.current_task() is not None:
            return asyncio.get_running_loop()
    except RuntimeError:
        pass
    raise WrongLoop(
        "mioesim_async works on asyncio only, and no asyncio task is running (trio?); call it "
        "from asyncio.run(), or from a thread that runs an asyncio event loop"
    )


class _UnaskedBytes(aiohttp.ClientError):
    """An idle connection holds unrequested bytes, so nothing was sent over it."""


class _Request(aiohttp.ClientRequest):
    """Reports when a request gets its connection; aiohttp's limits include the wait for one."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        current = _progress.get()
        if current is not None:
            progress, manager = current
            protocol = conn.protocol
            if protocol is None or protocol.should_close:
                # The bytes would be taken for the reply to this request.
                raise _UnaskedBytes
            if protocol not in manager.seen:
                manager.count(protocol)
            progress.was_reported = True
            progress.timer.start(progress)
        return await super().send(conn)


class SessionManager(Closing):
    """A pool of keep-alive connections that several clients may share.

    The session opens at the first request, in the running event loop. Cookies are not kept, and
    redirects are not followed, since they could send the password to another host.

    If you pass a session, its connector and trace configurations are used; its cookies, headers,
    auth and time-outs are not, and it is never closed. Purchases then share its connections with
    reads, so many reads may delay a purchase. If that matters, pass no session, or one whose
    connector has connections to spare.
    """

    def __init__(
        self,
        *,
        limits: PoolLimits | None = None,
        timeouts: Timeouts | None = None,
        session: aiohttp.ClientSession | None = None,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
        proxy: str | None = None,
        ssl: ssl_module.SSLContext | aiohttp.Fingerprint | bool | None = None,
    ) -> None:
        """Configure the pool; nothing is opened yet.

        Args:
            limits: Limits of the pool. Don't combine them with ``session``, whose connector has
                its own.
            timeouts: Limits of attempts, for clients that set none themselves.
            session: An aiohttp session whose connector to use.
            trace_configs: Passed to aiohttp. They see the URLs, which contain token and
                signature when reads go by GET, so use ``Dialect(read_method="POST")``.
            proxy: URL of an HTTP proxy.
            ssl: A context, a fingerprint, or False to skip all checks; None for the system's
                certificates.

        Raises:
            ConfigurationError: If the arguments can't be used, or not together.
        """
        if session is not None and limits is not None:
            raise ConfigurationError(
                "limits= has no effect with session=: set them on that session's connector"
            )
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise ConfigurationError("session= takes an aiohttp.ClientSession")
        self.limits = limits or PoolLimits()
        self.timeouts = timeouts or Timeouts()
        self._given_session = session
        self._trace_configs = list(trace_configs)
        self._proxy = None if proxy is None else _proxy_url(proxy)
        self._ssl = ssl
        self._session: aiohttp.ClientSession | None = None
        self._reserved_session: aiohttp.ClientSession | None = None
        self._reports_sending: bool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self.seen: weakref.WeakSet[object] = weakref.WeakSet()
        self._connections = 0
        # Our own connector gets ssl when it is made.
        self._lent_ssl: dict[str, Any] = {} if session is None or ssl is None else {"ssl": ssl}

    @property
    def closed(self) -> bool:
        """Whether ``aclose`` was called."""
        return self._closed

    @property
    def connections(self) -> int:
        """How many connections have been used so far."""
        return self._connections

    @property
    def pool_size(self) -> int:
        """How many requests can be under way at once; 0 for no limit."""
        if self._given_session is None:
            sizes = [self.limits.total, self.limits.per_host]
        else:
            connector = self._given_session.connector
            sizes = [connector.limit, connector.limit_per_host] if connector else []
        return min(filter(None, sizes), default=0)

    async def aclose(self) -> None:
        """Close the sessions that were opened here; a session that was passed in stays open.

        Raises:
            WrongLoop: Under trio, after use on asyncio.
        """
        self.check_closable()
        self._closed = True
        # They stay known until each is closed, so that a second call closes what this one didn't.
        for session in (self._session, self._reserved_session):
            if session is not None:
                await session.close()
        self._session = self._reserved_session = None

    def check_closable(self) -> None:
        """Check that closing is possible here.

        Raises:
            WrongLoop: If no asyncio task runs (trio), and the manager was used and is not closed.
        """
        if self._loop is not None and not self._closed:
            running_loop()

    def check_usable(self) -> None:
        """Refuse use after ``aclose`` and from a second loop.

        Raises:
            ClientClosed: After ``aclose``, or when the session that was passed in is closed.
            WrongLoop: From another event loop than the first, or from trio.
        """
        if self._closed:
            raise ClientClosed("the session manager is closed; make a new one")
        loop = running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongLoop(
                "used from a second event loop; make one client and session manager per loop"
            )
        if self._given_session is not None and self._given_session.closed:
            raise ClientClosed("the aiohttp session that was passed in is closed")

    async def send(self, request: Request, progress: Progress) -> RawReply:
        """Send a request once, and read the whole reply.

        Raises:
            TransportError: If the network fails; no message or cause contains a URL.
            ProtocolError: If the body is larger than the request allows.
            ConfigurationError: If the request is a purchase, and aiohttp doesn't report when it
                sends requests.
            ClientClosed: After ``aclose``.
            WrongLoop: If the session that was passed in belongs to another event loop.
        """
        session = self._reserved_session if request.reserved else self._session
        if session is None or session.closed:
            session = await self._open(request)
        if request.is_purchase and not self._may_send_purchases():
            raise ConfigurationError(NO_REPORTS)
        fault: MioEsimError | None = None
        response: aiohttp.ClientResponse | None = None
        token = _progress.set((progress, self))
        try:
            for _ in range(MAX_UNASKED):
                if not self._reports_sending:
                    # Until aiohttp has reported a request, count each as sent from its start.
                    progress.timer.start(progress)
                try:
                    async with session.request(
                        request.method,
                        URL(request.url, encoded=True),
                        data=request.body,
                        headers={"Content-Type": request.content_type} if request.body else None,
                        allow_redirects=False,
                        timeout=request.timeout,
                        proxy=self._proxy,
                        **self._lent_ssl,
                    ) as response:
                        if progress.was_reported != self._reports_sending:
                            self._note_reporting(told=progress.was_reported)
                        progress.content = response.content
                        body = await _read_body(response, request)
                        status, headers = response.status, response.headers
                        wait = None if status == 200 else headers.get("Retry-After")
                        return RawReply(status, wait, body, headers.get("Date"))
                except _UnaskedBytes:
                    progress.sent = False
                except (asyncio.CancelledError, *AIOHTTP_ERRORS) as error:
                    fault = self._explain(error, session, request, progress)
                    break
        finally:
            # A traceback keeps this frame, and these two hold the URL.
            response = progress.content = None
            _progress.reset(token)
        if fault is None:
            fault = ConnectError(UNASKED_BYTES)
        if isinstance(fault, NEVER_SENT):
            progress.sent = False
        # Raised outside the handler, so that aiohttp's error, with its URL, is not its context.
        raise fault

    def _explain(
        self,
        error: asyncio.CancelledError | aiohttp.ClientError | OSError | RuntimeError | UnicodeError,
        session: aiohttp.ClientSession,
        request: Request,
        progress: Progress,
    ) -> MioEsimError:
        """Make an error of the SDK from one of aiohttp; raise errors that are not aiohttp's."""
        if isinstance(error, asyncio.CancelledError):
            if (self._closed or session.closed) and not is_being_cancelled():
                # aiohttp cancels the calls that wait for a connection when it is closed.
                return ClientClosed(CLOSED)
            # Drop the traceback: aiohttp's frames hold password and token.
            raise error.with_traceback(None)
        if isinstance(error, UnicodeError):
            return ConfigurationError("the host name in base_url is not valid")
        if isinstance(error, aiohttp.InvalidURL) and not progress.was_reported:
            return unusable_url(error)
        if isinstance(error, aiohttp.ClientError | OSError):
            return explain(error, request, sent=progress.sent)
        if "different loop" in str(error):
            return WrongLoop("the aiohttp session that was passed in belongs to another event loop")
        if self._closed or session.closed:
            return ClientClosed(CLOSED)
        raise error

    def _may_send_purchases(self) -> bool:
        """Tell whether aiohttp may report when it sends a request; otherwise nothing is bought."""
        # A later version of aiohttp may not call the method that we override.
        is_called = hasattr(aiohttp.ClientRequest, "send") and "send" in vars(_Request)
        return is_called and self._reports_sending is not False

    def _note_reporting(self, *, told: bool) -> None:
        """Note, after a reply, whether aiohttp had reported that it sent the request."""
        self._reports_sending = told
        if not told:
            logger.warning("%s; reads go on", NO_REPORTS)

    def count(self, connection: asyncio.BaseProtocol) -> None:
        """Count a connection that is used for the first time."""
        self.seen.add(connection)
        self._connections += 1

    async def _open(self, request: Request) -> aiohttp.ClientSession:
        async with self._opening:
            self.check_usable()
            if request.reserved and self._given_session is None:
                if self._reserved_session is None:
                    self._reserved_session = await self._own_session(request, reserved=True)
                return self._reserved_session
            if self._session is None or self._session.closed:
                self._session = (
                    await self._own_session(request, reserved=False)
                    if self._given_session is None
                    else self._make_session(self._given_session.connector, self._given_session)
                )
            if request.reserved:
                self._reserved_session = self._session
            return self._session

    async def _own_session(self, request: Request, *, reserved: bool) -> aiohttp.ClientSession:
        context = self._ssl
        if context is None and request.url.startswith("https:"):
            # In a thread, since reading the system's certificates takes long.
            context = self._ssl = await asyncio.to_thread(_tls_context)
            self.check_usable()
        limits = self.limits
        common: dict[str, Any] = {
            "ttl_dns_cache": None if limits.dns_ttl == math.inf else round(limits.dns_ttl),
            "ssl": True if context is None else context,
            "resolver": _Resolver(self.timeouts.connect),
        }
        connector = (
            # The slots for purchases limit the number; no connection is used twice.
            aiohttp.TCPConnector(limit=0, force_close=True, **common)
            if reserved
            else aiohttp.TCPConnector(
                limit=limits.total,
                limit_per_host=limits.per_host,
                keepalive_timeout=min(limits.keepalive, LONGEST_KEEPALIVE),
                **common,
            )
        )
        return self._make_session(connector, None)

    def _make_session(
        self, connector: aiohttp.BaseConnector | None, lender: aiohttp.ClientSession | None
    ) -> aiohttp.ClientSession:
        lent = [] if lender is None else list(lender.trace_configs)
        if self._proxy is not None:
            lent.append(_connecting_trace())
        return aiohttp.ClientSession(
            connector=connector,
            connector_owner=lender is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
            request_class=_Request,
            trace_configs=[*lent, *self._trace_configs],
        )


async def _read_body(response: aiohttp.ClientResponse, request: Request) -> bytes:
    """Read the body of a reply up to its limit; the body of an error status is dropped.

    Raises:
        ProtocolError: If the body is larger. If it answers a purchase, ``data`` has its start
            and the parts of it that may contain the order number.
    """
    length, headers = response.content_length, response.headers
    if not 200 <= response.status < 300:
        small = length is not None and length <= MAX_ERROR_BODY_BYTES
        if small and "Content-Encoding" not in headers:
            # Read it so that the connection can be used again; the content is not needed.
            with suppress(aiohttp.ClientError):
                await response.read()
        else:
            response.close()
        return b""
    limit = request.max_bytes
    if length is not None and length <= limit and "Content-Encoding" not in headers:
        return await response.read()
    pieces: list[bytes] = []
    size = 0
    too_long = length is not None and length > limit
    if not too_long or request.is_purchase:
        async for piece in response.content.iter_any():
            size += len(piece)
            pieces.append(piece)
            if size > limit:
                break
        else:
            return b"".join(pieces)
    fault = too_large(limit)
    if request.is_purchase:
        excerpts = Excerpts()
        for piece in pieces:
            await in_slices(excerpts.feed(piece))
        with suppress(aiohttp.ClientError):
            while size < MAX_PURCHASE_BYTES and (piece := await response.content.readany()):
                size += len(piece)
                await in_slices(excerpts.feed(piece))
        fault.data = excerpts.text()
    response.close()
    raise fault


class _Resolver(aiohttp.ThreadedResolver):
    """The system's resolver, with a time limit."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = None if seconds == math.inf else seconds

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        async with asyncio.timeout(self._seconds):
            return await super().resolve(host, port, family)


def _connecting_trace() -> aiohttp.TraceConfig:
    """Report when a connection is being made: aiohttp has no limit for connecting by a proxy."""

    async def connecting(*_: object) -> None:
        current = _progress.get()
        if current is not None:
            current[0].mark_connecting()

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_start.append(connecting)
    return trace


def _proxy_url(proxy: str) -> str:
    url = None
    with suppress(ValueError, TypeError):
        url = URL(proxy)
    if url is None or url.scheme not in ("http", "https") or not url.host:
        # The message must not contain the URL, which may hold a password.
        raise ConfigurationError("proxy must look like http://host:port or https://host:port")
    return proxy


def _tls_context() -> ssl_module.SSLContext:
    context = ssl_module.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
