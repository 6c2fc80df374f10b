"""One account, one live token: logging in, once, for everybody who waits."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from attrs import evolve

from mioesim_async.errors import (
    ApiError,
    AuthenticationError,
    ClientClosed,
    HttpStatusError,
    MioEsimError,
    ProtocolError,
    SignatureError,
)
from mioesim_async.tokens.store import StoredToken, TokenStore
from mioesim_async.transport.clock import Clock
from mioesim_async.wire.dialect import Dialect, ReadMethod
from mioesim_async.wire.endpoints import LOGIN
from mioesim_async.wire.envelope import Envelope

__all__ = ["TokenKeeper"]

logger = logging.getLogger("mioesim_async")

TOKEN_LIFETIME = 2 * 60 * 60.0
"""Seconds that a token lives (vendor-documented)."""

RENEW_EARLY = 12 * 60.0
"""Seconds before its end that a token is renewed; 10 to 15 minutes are advised."""

REFUSAL_REMEMBERED = 60.0
"""Seconds that a refused login is not tried again."""

TRY_NEXT_CODES = frozenset({-30, -2})
TRY_NEXT_STATUSES = frozenset({404, 405, 415})

SendLogin = Callable[[Dialect, bool], Awaitable[Envelope]]
"""Makes one login by a decided dialect. The flag: it is the only one left, so an HTML
page is a bad moment and not a wrong variant."""


class TokenKeeper:
    """Keeps the account's token and makes new ones, one login at a time.

    The login runs in a task of its own that every caller waits for behind a shield: a
    caller who is cancelled doesn't cancel it for the others.
    """

    def __init__(
        self, *, store: TokenStore, key: str, dialect: Dialect, clock: Clock, send: SendLogin
    ) -> None:
        """Keep tokens of one account in a store."""
        self.dialect = dialect
        self.logins = 0
        self._store = store
        self._key = key
        self._clock = clock
        self._send = send
        self._current: StoredToken | None = None
        self._renew_at = 0.0
        self._flight: asyncio.Task[StoredToken | MioEsimError] | None = None
        self._rejected: deque[str] = deque(maxlen=32)
        self._refusal: MioEsimError | None = None
        self._refused_until = 0.0
        self._closed = False

    async def get(self, rejected: str | None = None) -> StoredToken:
        """Return a live token, after logging in where that is needed.

        Args:
            rejected: The token that the vendor has just refused. A hundred calls that
                come back with the same one cost one login.

        Raises:
            MioEsimError: If the login fails.
        """
        current = self._current
        if current is not None and current.token != rejected:
            if self._clock.monotonic() < self._renew_at:
                return current
        elif rejected is not None and rejected not in self._rejected:
            self._rejected.append(rejected)
        if self._closed:
            raise ClientClosed("the client is closed; make a new one")
        if self._flight is None:
            self._flight = asyncio.create_task(self._renew(), name="mioesim_async login")
            self._flight.add_done_callback(self._landed)
        flight = self._flight
        try:
            result = await asyncio.shield(flight)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not flight.cancelled() or (task is not None and task.cancelling()):
                raise
            result = ClientClosed("the client was closed during the login")
        if isinstance(result, MioEsimError):
            # A copy for each waiter: one instance would collect all their tracebacks.
            raise copy.copy(result)
        return result

    def learn_read_method(self, method: ReadMethod) -> None:
        """Keep the method by which reads work here."""
        self.dialect = evolve(self.dialect, read_method=method)

    @property
    def token(self) -> str | None:
        """The current token."""
        return None if self._current is None else self._current.token

    async def aclose(self) -> None:
        """Cancel a login that is under way, and wait for its end."""
        self._closed = True
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait([self._flight])

    def _landed(self, flight: asyncio.Task[StoredToken | MioEsimError]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()

    async def _renew(self) -> StoredToken | MioEsimError:
        if self._refusal is not None and self._clock.monotonic() < self._refused_until:
            return self._refusal
        self._refusal = None
        try:
            async with self._store.lock(self._key):
                stored = await self._store.load(self._key)
                if stored is not None and self._is_news(stored):
                    return self._adopt(stored)
                fresh = self._adopt(await self._login())
                await self._store.save(self._key, fresh)
                return fresh
        except MioEsimError as error:
            if isinstance(error, ApiError):
                self._refusal = error.with_traceback(None)
                self._refused_until = self._clock.monotonic() + REFUSAL_REMEMBERED
            return error.with_traceback(None)

    def _is_news(self, stored: StoredToken) -> bool:
        return stored.token != self.token and stored.token not in self._rejected

    def _adopt(self, stored: StoredToken) -> StoredToken:
        age = max(0.0, self._clock.time() - stored.obtained_at)
        self._current = stored
        self._renew_at = self._clock.monotonic() + TOKEN_LIFETIME - RENEW_EARLY - age
        self.dialect = evolve(
            stored.dialect, read_method=self.dialect.read_method or stored.dialect.read_method
        )
        return stored

    async def _login(self) -> StoredToken:
        """Log in by the first variant that the host takes."""
        variants = list(self.dialect.login_variants())
        answers: list[MioEsimError] = []
        for variant in variants:
            fault: MioEsimError
            try:
                envelope = await self._send(variant, len(variants) == 1)
            except (ApiError, ProtocolError, HttpStatusError) as error:
                fault = error
            else:
                token = _token_in(envelope)
                self.logins += 1
                logger.info(
                    "logged in (signature %s, login as %s)",
                    variant.signature,
                    variant.login_encoding,
                )
                return StoredToken(token, self._clock.time(), variant)
            answers.append(fault)
            if not _suggests_next(fault):
                raise fault
        raise _most_telling(answers)


def _suggests_next(fault: MioEsimError) -> bool:
    match fault:
        case ApiError(code=code):
            return code in TRY_NEXT_CODES
        case ProtocolError(reason=reason):
            return reason == "html"
        case HttpStatusError(status=status):
            return status in TRY_NEXT_STATUSES
        case _:
            return False


def _most_telling(answers: list[MioEsimError]) -> MioEsimError:
    """Choose the error that helps most, when every variant was refused."""
    for kind in (SignatureError, AuthenticationError):
        for answer in answers:
            if isinstance(answer, kind):
                return answer
    return answers[-1]


def _token_in(envelope: Envelope) -> str:
    data = envelope.data
    token = data.get("token") if isinstance(data, dict) else data
    if isinstance(token, str) and token.strip():
        return token.strip()
    raise ProtocolError("the login succeeded but its reply holds no token").at(LOGIN.path)
