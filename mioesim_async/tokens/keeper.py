"""One account, one live token: logging in, once, for everybody who waits."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from attrs import evolve

from mioesim_async.clock import Clock
from mioesim_async.errors import (
    ApiError,
    AuthenticationError,
    ClientClosed,
    ConfigurationError,
    HttpStatusError,
    MioEsimError,
    PermissionDenied,
    ProtocolError,
    SignatureError,
    TokenContention,
)
from mioesim_async.tokens.fallback import StoreFallback
from mioesim_async.tokens.store import StoredToken, TokenStore
from mioesim_async.wire.dialect import Dialect, ReadMethod, setting
from mioesim_async.wire.endpoints import LOGIN
from mioesim_async.wire.envelope import Envelope

__all__ = ["TokenKeeper", "contended"]

logger = logging.getLogger("mioesim_async")

TOKEN_LIFETIME = 2 * 60 * 60.0
"""Seconds that a token lives (vendor-documented)."""

RENEW_EARLY = 12 * 60.0
"""Seconds before its end that a token is renewed; 10 to 15 minutes are advised."""

MINUTE = 60.0

DEATHS = 3
"""Tokens that somebody outside the store kills within a minute before we stop logging in."""

REFUSAL_REMEMBERED = MINUTE
"""Seconds that a refused login is not tried again."""

STORE_PATIENCE = 3.0
"""Seconds to wait for a store that is down before logging in without it. Clients that can't see
each other's tokens kill them by turns, so a moment of waiting is cheaper than a login."""

LOOK_AGAIN = 0.5
"""Seconds between two looks at a store that is down."""

CONTENTION = (
    "tokens are refused as soon as they are made, so somebody else keeps logging in on this "
    "account; give all its processes one token store, or an account each, and try again in a "
    "minute"
)

REFUSALS = (AuthenticationError, PermissionDenied, SignatureError, TokenContention)
"""Errors that a login would meet again; anything else may pass.

``transport/failures.py`` says the same, but stands on a floor above; a test compares the two.
"""

DECIDED = ("signature", "login_encoding")
"""What of a dialect a login needs to know."""

TRY_NEXT_CODES = frozenset({-30, -2})
TRY_NEXT_STATUSES = frozenset({404, 405, 415})

SendLogin = Callable[[Dialect, bool], Awaitable[Envelope]]
"""Makes one login by a decided dialect. The flag: it is the only one left, so an HTML
page is a bad moment and not a wrong variant."""


def contended(endpoint: str, refused: ApiError | None = None) -> TokenContention:
    """Make the error for tokens that die as fast as they are made."""
    code, message, data = (
        (-1, "", None) if refused is None else (refused.code, refused.message, refused.data)
    )
    return TokenContention(endpoint, code, message, data, CONTENTION)


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
        self._configured = dialect
        self._fallback = StoreFallback(store, key, clock)
        self._clock = clock
        self._send = send
        self._current: StoredToken | None = None
        self._renew_at = 0.0
        self._flight: asyncio.Task[StoredToken | MioEsimError] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._rejected: deque[str] = deque(maxlen=32)
        self._deaths: deque[float] = deque(maxlen=DEATHS)
        self._last_death: str | None = None
        self._refusal: MioEsimError | None = None
        self._refused_until = 0.0
        self._refused_blindly = False
        self._closed = False

    async def get(self, rejected: StoredToken | None = None) -> StoredToken:
        """Return a live token, after logging in where that is needed.

        Args:
            rejected: The token that the vendor has just refused. A hundred calls that
                come back with the same one cost one login.

        Raises:
            MioEsimError: If the login fails.
        """
        current = self._current
        if current is not None and (rejected is None or current.token != rejected.token):
            if self._fallback.behind:
                self._catch_up()
            if self._clock.monotonic() < self._renew_at:
                return current
        elif rejected is not None:
            self._bury(rejected.token)
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
        for task in (self._flight, self._catching_up):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    def _landed(self, flight: asyncio.Task[StoredToken | MioEsimError]) -> None:
        self._flight = None
        if not flight.cancelled():
            flight.exception()

    async def _renew(self) -> StoredToken | MioEsimError:
        try:
            if self._refusal is not None and self._clock.monotonic() < self._refused_until:
                stored = await self._fallback.look()
                if stored is not None and self._is_news(stored):
                    return self._adopt(stored)
                if self._fallback.is_down or not self._refused_blindly:
                    return self._refusal
                # Clients of the store fought over the account while it was down. It is back,
                # and its lock keeps them apart.
                self._deaths.clear()
            self._refusal = None
            return await self._take_or_make()
        except MioEsimError as error:
            if isinstance(error, REFUSALS):
                self._remember(error)
            return error.with_traceback(None)

    async def _take_or_make(self) -> StoredToken:
        """Take the token from the store, or log in under the store's lock."""
        without_it_from = self._clock.monotonic() + STORE_PATIENCE
        looks = 0
        while True:
            async with self._fallback.lock():
                stored = await self._fallback.load()
                looks += 1
                if stored is not None and self._is_news(stored):
                    return self._adopt(stored)
                if self._current is not None and self._clock.monotonic() < self._renew_at:
                    # It came from the store while we waited for the lock.
                    return self._current
                waited = looks > 1 and self._clock.monotonic() >= without_it_from
                if waited or not self._fallback.is_down:
                    return await self._log_in(stored)
            await self._clock.sleep(LOOK_AGAIN)

    async def _log_in(self, stored: StoredToken | None) -> StoredToken:
        if self._is_contended():
            raise contended(LOGIN.path)
        fresh = await self._login()
        # The login killed the tokens that were known before.
        for dead in (stored, self._current):
            if dead is not None and dead.token != fresh.token:
                self._bury(dead.token)
        self._adopt(fresh)
        await self._fallback.save(fresh)
        return fresh

    def refuse(self, error: MioEsimError, rejected: StoredToken) -> None:
        """Answer everybody with this error for a minute, and log in no more.

        Args:
            error: What tells that logging in again would be in vain.
            rejected: The token that was refused last. Where there is a newer one by now,
                nothing speaks against that, and the error is the caller's alone.
        """
        self._bury(rejected.token)
        if self.token is None or self.token in self._rejected:
            self._remember(error)

    def _remember(self, error: MioEsimError) -> None:
        self._refusal = copy.copy(error)
        self._refused_until = self._clock.monotonic() + REFUSAL_REMEMBERED
        self._refused_blindly = isinstance(error, TokenContention) and self._fallback.is_down
        self._renew_at = 0.0

    def _is_contended(self) -> bool:
        """Note a token that died before its time and not by the store; three are too many."""
        current = self._current
        if current is None or current.token not in self._rejected:
            return False
        if self._clock.time() - current.obtained_at >= TOKEN_LIFETIME - RENEW_EARLY:
            return False
        now = self._clock.monotonic()
        # A login that fails is tried again, and is no second death of the same token.
        if current.token != self._last_death:
            self._last_death = current.token
            self._deaths.append(now)
            logger.warning(
                "a token was refused before its time: somebody else logs in on this account; "
                "give all its clients one token store"
            )
        return len(self._deaths) == DEATHS and now - self._deaths[0] < MINUTE

    def _catch_up(self) -> None:
        """Bring the live token to a store that was down, in a task of its own."""
        if self._fallback.may_catch_up and self._catching_up is None and not self._closed:
            self._catching_up = asyncio.create_task(
                self._bring(), name="mioesim_async token to store"
            )
            self._catching_up.add_done_callback(self._caught_up)

    def _caught_up(self, task: asyncio.Task[None]) -> None:
        self._catching_up = None
        if not task.cancelled():
            task.exception()

    async def _bring(self) -> None:
        try:
            async with self._fallback.lock():
                stored, current = await self._fallback.load(), self._current
                if current is None or current.token in self._rejected or self._fallback.is_down:
                    return
                if (
                    stored is not None
                    and stored.obtained_at > current.obtained_at
                    and self._is_news(stored)
                ):
                    # Somebody logged in since, and so killed the token that we have.
                    current = self._adopt(stored)
                await self._fallback.save(current)
        except ConfigurationError as error:
            # No caller waits for this task; who needs the next token is told.
            self._fallback.behind = False
            logger.warning("the token can't be brought to its store: %s", error)

    def _bury(self, token: str) -> None:
        """Remember a token that is dead, so that no store brings it back."""
        if token not in self._rejected:
            self._rejected.append(token)
        if token == self.token:
            # Calls that start now wait for a new one.
            self._renew_at = 0.0

    def _is_news(self, stored: StoredToken) -> bool:
        return stored.token != self.token and stored.token not in self._rejected

    def _adopt(self, stored: StoredToken) -> StoredToken:
        age = max(0.0, self._clock.time() - stored.obtained_at)
        self._current = stored
        self._renew_at = self._clock.monotonic() + TOKEN_LIFETIME - RENEW_EARLY - age
        found, own = stored.dialect, self._configured
        self.dialect = evolve(
            own,
            signature=own.signature or found.signature,
            login_encoding=own.login_encoding or found.login_encoding,
            read_method=own.read_method or self.dialect.read_method or found.read_method,
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
        raise _most_telling(answers, variants, self._configured)


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


def _most_telling(
    answers: list[MioEsimError], variants: list[Dialect], configured: Dialect
) -> MioEsimError:
    """Choose the error that helps most, when every variant was refused."""
    for answer in answers:
        if isinstance(answer, SignatureError):
            hint = _wrong_key(variants, configured)
            return SignatureError(answer.endpoint, answer.code, answer.message, answer.data, hint)
    for answer in answers:
        if isinstance(answer, AuthenticationError):
            return answer
    return answers[-1]


def _wrong_key(variants: list[Dialect], configured: Dialect) -> str:
    """Say what to do about a login that was refused as wrongly signed, by what was tried."""
    if fixed := [name for name in DECIDED if getattr(configured, name) is not None]:
        set_ways = " and ".join(setting(name, repr(getattr(configured, name))) for name in fixed)
        return (
            f"nothing was tried but {set_ways}: check the secret key, or leave that out, so that "
            "all ways to sign and send a login are tried"
        )
    if len(variants) > 1:
        return (
            f"all {len(variants)} ways to sign and send a login were tried, so the secret key is "
            "wrong: check it"
        )
    return (
        f"it was signed as before ({variants[0].signature}, login as {variants[0].login_encoding})"
        ", which worked, so the secret key is wrong: check whether it was changed"
    )


def _token_in(envelope: Envelope) -> str:
    data = envelope.data
    token = data.get("token") if isinstance(data, dict) else data
    if isinstance(token, str) and token.strip():
        return token.strip()
    raise ProtocolError("the login succeeded but its reply holds no token").at(LOGIN.path)
