"""The session manager: one pool of connections, shared by whoever is given it."""

from __future__ import annotations

import asyncio
import ssl as ssl_module
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

import aiohttp
from attrs import define, field, frozen
from yarl import URL

from mioesim_async._version import __version__
from mioesim_async.errors import (
    AttemptTimeout,
    ClientClosed,
    ConfigurationError,
    ConnectError,
    ConnectionLost,
    MioEsimError,
    WrongLoop,
)
from mioesim_async.transport.config import PoolLimits, Timeouts
from mioesim_async.transport.lifetime import Closing
from mioesim_async.wire.envelope import MAX_BODY_BYTES, too_large

if TYPE_CHECKING:
    from aiohttp.connector import Connection

__all__ = ["Progress", "RawReply", "Request", "SessionManager"]

HEADERS = {"User-Agent": f"mioesim-async/{__version__}", "Accept": "application/json"}
FORM = "application/x-www-form-urlencoded"
ERROR_BODY_BYTES = 64 * 1024
MONEY_CONNECTIONS = 10


@frozen
class Request:
    """One request, ready to be sent.

    Attributes:
        method: GET or POST.
        url: The whole URL, already encoded.
        body: The body of a POST.
        content_type: What the body is.
        timeout: Limits of the sockets.
        sign: The signature in it, to be masked.
        fresh: Send it over a connection that nothing was sent on before.
    """

    method: str
    url: str = field(repr=False)
    body: bytes | None = field(repr=False)
    content_type: str
    timeout: aiohttp.ClientTimeout
    sign: str = field(repr=False)
    fresh: bool = False


@frozen
class RawReply:
    """One reply, read to its end."""

    status: int
    retry_after: str | None
    body: bytes


@define
class Progress:
    """How far an attempt has come.

    Attributes:
        sent: It has its connection, so a byte may have left.
        on_sent: Called at that moment.
    """

    on_sent: Callable[[], None] | None = None
    sent: bool = False


_progress: ContextVar[tuple[Progress, SessionManager] | None] = ContextVar(
    "mioesim_async_progress", default=None
)


class _Request(aiohttp.ClientRequest):
    """Tells when a request has its connection; aiohttp's own limits count queueing as well."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        current = _progress.get()
        if current is not None:
            progress, manager = current
            manager.saw(conn)
            if not progress.sent:
                progress.sent = True
                if progress.on_sent is not None:
                    progress.on_sent()
        return await super().send(conn)


class SessionManager(Closing):
    """One pool of keep-alive connections; several clients may share it.

    The session opens in the running loop at the first request. Cookies are not kept and
    redirects not followed: a redirect would send the form, password included, elsewhere.

    A session that is passed in is never closed. It lends its connector and its trace
    configurations; its cookies, headers, auth and time-outs don't reach the vendor.
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
            limits: Of the pool; not with ``session``, whose connector has its own.
            timeouts: Of attempts, for clients that set none themselves.
            session: An aiohttp session that lends its connector.
            trace_configs: Passed to aiohttp. They see raw URLs, and reads by GET carry
                token and signature there: use ``Dialect(read_method="POST")`` with them.
            proxy: URL of an HTTP proxy.
            ssl: A context, a fingerprint, or False to check nothing; None for the
                system's certificates.

        Raises:
            ConfigurationError: If arguments don't fit together.
        """
        if session is not None and limits is not None:
            raise ConfigurationError(
                "limits= has no effect with session=: set them on that session's connector"
            )
        if session is not None and not isinstance(session, aiohttp.ClientSession):
            raise ConfigurationError("session= takes an aiohttp.ClientSession")
        self.limits = limits or PoolLimits()
        self.timeouts = timeouts or Timeouts()
        self._lender = session
        self._trace_configs = list(trace_configs)
        self._proxy = proxy
        self._ssl = ssl
        self._session: aiohttp.ClientSession | None = None
        self._money_session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._seen: weakref.WeakSet[object] = weakref.WeakSet()
        self._connections = 0

    @property
    def closed(self) -> bool:
        """Whether ``aclose`` was called."""
        return self._closed

    @property
    def connections(self) -> int:
        """How many connections were used so far."""
        return self._connections

    @property
    def pool_size(self) -> int:
        """How many requests can be under way at once; 0 for no limit."""
        if self._lender is None:
            sizes = [self.limits.total, self.limits.per_host]
        else:
            connector = self._lender.connector
            sizes = [connector.limit, connector.limit_per_host] if connector else []
        return min(filter(None, sizes), default=0)

    async def aclose(self) -> None:
        """Close what was opened here; a session that was passed in stays open."""
        self._closed = True
        sessions = (self._session, self._money_session)
        self._session = self._money_session = None
        for session in sessions:
            if session is not None:
                await session.close()

    def check_usable(self) -> None:
        """Refuse use after ``aclose`` and from a second loop.

        Raises:
            ClientClosed: After ``aclose``, or when the session that was passed in is closed.
            WrongLoop: From another event loop than the first.
        """
        if self._closed:
            raise ClientClosed("the session manager is closed; make a new one")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongLoop(
                "used from a second event loop; make one client and session manager per loop"
            )
        if self._lender is not None and self._lender.closed:
            raise ClientClosed("the aiohttp session that was passed in is closed")

    async def send(self, request: Request, progress: Progress) -> RawReply:
        """Make one attempt: send, and read the whole reply.

        Raises:
            TransportError: If the network fails; no message or cause holds a URL.
            ProtocolError: If the body is larger than 32 MiB.
            ClientClosed: After ``aclose``.
            WrongLoop: From another event loop than the first.
        """
        self.check_usable()
        session = self._money_session if request.fresh else self._session
        if session is None or session.closed:
            session = await self._open(request)
        token = _progress.set((progress, self))
        fault: MioEsimError
        try:
            async with session.request(
                request.method,
                URL(request.url, encoded=True),
                data=request.body,
                headers={"Content-Type": request.content_type} if request.body else None,
                allow_redirects=False,
                timeout=request.timeout,
                proxy=self._proxy,
            ) as response:
                body = await _read(response)
                return RawReply(response.status, response.headers.get("Retry-After"), body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            fault = _explain(error, progress, request)
        except RuntimeError as error:
            if not (self._closed or session.closed):
                raise
            fault = ClientClosed(f"closed while a call was under way ({type(error).__name__})")
        finally:
            _progress.reset(token)
        # Raised outside the handler: aiohttp's errors print URLs, with token and signature.
        raise fault

    def saw(self, conn: Connection) -> None:
        """Count a connection that is used for the first time."""
        protocol = conn.protocol
        if protocol is not None and protocol not in self._seen:
            self._seen.add(protocol)
            self._connections += 1

    async def _open(self, request: Request) -> aiohttp.ClientSession:
        async with self._opening:
            self.check_usable()
            if request.fresh and self._lender is None:
                if self._money_session is None:
                    self._money_session = await self._own_session(request, money=True)
                return self._money_session
            if self._session is None or self._session.closed:
                self._session = (
                    await self._own_session(request, money=False)
                    if self._lender is None
                    else self._make_session(self._lender.connector, self._lender)
                )
            if request.fresh:
                self._money_session = self._session
            return self._session

    async def _own_session(self, request: Request, *, money: bool) -> aiohttp.ClientSession:
        context = self._ssl
        if context is None and request.url.startswith("https:"):
            # Reading the system's certificates takes tens of milliseconds.
            context = self._ssl = await asyncio.to_thread(_tls_context)
            self.check_usable()
        limits = self.limits
        if money:
            connector = aiohttp.TCPConnector(
                limit=min(MONEY_CONNECTIONS, limits.total),
                force_close=True,
                ttl_dns_cache=_whole(limits.dns_ttl),
                ssl=True if context is None else context,
            )
        else:
            connector = aiohttp.TCPConnector(
                limit=limits.total,
                limit_per_host=limits.per_host,
                keepalive_timeout=limits.keepalive,
                ttl_dns_cache=_whole(limits.dns_ttl),
                ssl=True if context is None else context,
            )
        return self._make_session(connector, None)

    def _make_session(
        self, connector: aiohttp.BaseConnector | None, lender: aiohttp.ClientSession | None
    ) -> aiohttp.ClientSession:
        lent = [] if lender is None else lender.trace_configs
        return aiohttp.ClientSession(
            connector=connector,
            connector_owner=lender is None,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
            request_class=_Request,
            trace_configs=[*lent, *self._trace_configs],
        )


def _whole(seconds: float) -> int | None:
    return None if seconds == float("inf") else round(seconds)


def _tls_context() -> ssl_module.SSLContext:
    context = ssl_module.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Read a body, but never more than the limit, and of an error page only a small one."""
    length = response.content_length
    if not 200 <= response.status < 300:
        if length is not None and length <= ERROR_BODY_BYTES:
            await response.read()
        else:
            response.close()
        return b""
    if (
        length is not None
        and length <= MAX_BODY_BYTES
        and "Content-Encoding" not in response.headers
    ):
        return await response.read()
    pieces: list[bytes] = []
    size = 0
    if length is None or length <= MAX_BODY_BYTES:
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > MAX_BODY_BYTES:
                break
            pieces.append(piece)
        else:
            return b"".join(pieces)
    response.close()
    raise too_large(MAX_BODY_BYTES)


def _explain(
    error: aiohttp.ClientError | TimeoutError | OSError, progress: Progress, request: Request
) -> MioEsimError:
    host = URL(request.url).authority
    name = type(error).__name__
    if isinstance(error, aiohttp.SocketTimeoutError):
        return AttemptTimeout(
            f"{host} sent nothing for {request.timeout.sock_read:g} s; "
            "try again later, or raise Timeouts(read=...)"
        )
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectError(
            f"no connection to {host} within {request.timeout.sock_connect:g} s; "
            "check base_url, the network and the proxy"
        )
    why = _reason(error)
    if isinstance(error, aiohttp.ClientConnectorError) or not progress.sent:
        return ConnectError(
            f"can't connect to {host}: {why} ({name}); check base_url, the network and the proxy"
        )
    return ConnectionLost(f"the connection to {host} broke: {why} ({name}); try again later")


def _reason(error: BaseException) -> str:
    """Say why, in words that can't hold a URL."""
    certificate = getattr(error, "certificate_error", None)
    system = certificate or getattr(error, "os_error", None) or error
    for attribute in ("verify_message", "strerror"):
        text = getattr(system, attribute, None)
        if isinstance(text, str) and text:
            return text
    status = getattr(error, "status", None)
    return f"the host's answer is not HTTP, or status {status}" if status else "no reason given"
