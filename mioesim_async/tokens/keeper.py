"""Keeps the valid token of an account, and logs in once for all calls that wait for one."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from attrs import evolve

from mioesim_async.clock import Clock, Uptime
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

__all__ = ["TokenKeeper", "contention_error"]

logger = logging.getLogger("mioesim_async")

TOKEN_LIFETIME = 2 * 60 * 60.0
"""Seconds that a token is valid (vendor-documented)."""

RENEW_EARLY = 12 * 60.0
"""Seconds before its end that a token is renewed; the vendor advises 10 to 15 minutes."""

MINUTE = 60.0

MAX_EARLY = 3
"""After so many tokens were refused early within a minute, the client stops logging in."""

REFUSAL_SECONDS = MINUTE
"""Seconds after a refused login before the client logs in again."""

LONGEST_STORE_WAIT = 3.0
"""Seconds to wait for a store that is down before logging in without it.

Without the store, each client's login invalidates the token of the others, so waiting is better.
"""

STORE_RETRY_SECONDS = 0.5
"""Seconds between two tries to use a store that is down."""

CONTENTION_HINT = (
    "new tokens are refused at once, so somebody else keeps logging in on this account; give "
    "all its processes one token store, or an account each, and try again in a minute"
)

LOGIN_REFUSALS = (AuthenticationError, PermissionDenied, SignatureError, TokenContention)
"""Errors with which the next login would fail too.

This repeats a part of ``transport/failures.py``, which can't be imported here. A test compares
the two.
"""

LOGIN_SETTINGS = ("signature", "login_encoding")
"""The settings of a dialect that a login needs."""

TRY_NEXT_CODES = frozenset({-30, -2})
TRY_NEXT_STATUSES = frozenset({404, 405, 415})

SendLogin = Callable[[Dialect, bool], Awaitable[Envelope]]
"""Logs in once by a dialect. The flag says that there is no other dialect to try, so a reply
of HTML is tried again."""


def contention_error(endpoint: str, refused: ApiError | None = None) -> TokenContention:
    """Make the error for new tokens that are refused at once."""
    code, message, data = (
        (-1, "", None) if refused is None else (refused.code, refused.message, refused.data)
    )
    return TokenContention(endpoint, code, message, data, CONTENTION_HINT)


class TokenKeeper:
    """Keeps the account's token, and logs in for a new one when that is needed.

    There is one login at a time, in a task of its own, so that a caller who is cancelled doesn't
    cancel it for the others.
    """

    def __init__(
        self, *, store: TokenStore, key: str, dialect: Dialect, clock: Clock, send: SendLogin
    ) -> None:
        """Keep the token of an account in a store."""
        self.dialect = dialect
        self.logins = 0
        self._configured = dialect
        self._fallback = StoreFallback(store, key, clock)
        self._clock = clock
        self._send = send
        self._current: StoredToken | None = None
        self._renew_at = 0.0
        self._login_task: asyncio.Task[StoredToken | MioEsimError] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._invalid: deque[str] = deque(maxlen=32)
        self._refused_early: deque[float] = deque(maxlen=MAX_EARLY)
        self._last_refused_early: str | None = None
        self._login_error: MioEsimError | None = None
        self._login_error_until = 0.0
        self._refused_without_store = False
        self._closed = False

    async def get(self, rejected: StoredToken | None = None) -> StoredToken:
        """Return a valid token; log in if that is needed.

        Args:
            rejected: The token that the vendor has just refused, or None. Any number of calls
                with the same refused token cause one login.

        Raises:
            MioEsimError: If the login fails.
        """
        current = self._current
        if current is not None and (rejected is None or current.token != rejected.token):
            if self._fallback.lacks_token:
                self._start_saving()
            if self._clock.monotonic() < self._renew_at:
                return current
        elif rejected is not None:
            self._mark_invalid(rejected.token)
        if self._closed:
            raise ClientClosed("the client is closed; make a new one")
        if self._login_task is None:
            self._login_task = asyncio.create_task(self._renew(), name="mioesim_async login")
            self._login_task.add_done_callback(self._login_ended)
        task = self._login_task
        try:
            result = await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if not task.cancelled() or (caller is not None and caller.cancelling()):
                raise
            result = ClientClosed("the client was closed during the login")
        if isinstance(result, MioEsimError):
            # A copy for each waiter, so that their tracebacks don't pile up on one instance.
            raise copy.copy(result)
        return result

    def learn_read_method(self, method: ReadMethod) -> None:
        """Set the method by which reads work."""
        self.dialect = evolve(self.dialect, read_method=method)

    @property
    def token(self) -> str | None:
        """The current token."""
        return None if self._current is None else self._current.token

    @property
    def expires_at(self) -> float | None:
        """When the current token expires, in seconds since the epoch; None if there is none.

        A token that was refused counts as none.
        """
        current = self._current
        if current is None or current.token in self._invalid:
            return None
        return current.obtained_at + TOKEN_LIFETIME

    @property
    def store(self) -> Uptime:
        """Whether the token store works, and since when."""
        return self._fallback.uptime

    @property
    def is_contended(self) -> bool:
        """Whether calls fail now because somebody else keeps logging in."""
        is_remembered = self._clock.monotonic() < self._login_error_until
        return is_remembered and isinstance(self._login_error, TokenContention)

    async def aclose(self) -> None:
        """Cancel a login or a save that is under way, and wait for its end."""
        self._closed = True
        for task in (self._login_task, self._saving):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    def _login_ended(self, task: asyncio.Task[StoredToken | MioEsimError]) -> None:
        self._login_task = None
        if not task.cancelled():
            task.exception()

    async def _renew(self) -> StoredToken | MioEsimError:
        try:
            if self._login_error is not None and self._clock.monotonic() < self._login_error_until:
                stored = await self._fallback.load_quickly()
                if stored is not None and self._is_new(stored):
                    return self._use(stored)
                if self._fallback.is_down or not self._refused_without_store:
                    return self._login_error
                # While the store was down, its clients invalidated each other's tokens. Now its
                # lock prevents that, so forget those refusals and log in.
                self._refused_early.clear()
            self._login_error = None
            return await self._load_or_log_in()
        except MioEsimError as error:
            if isinstance(error, LOGIN_REFUSALS):
                self._keep_error(error)
            return error.with_traceback(None)

    async def _load_or_log_in(self) -> StoredToken:
        """Return the store's token if it is new, or else log in under the store's lock."""
        without_it_from = self._clock.monotonic() + LONGEST_STORE_WAIT
        tries = 0
        while True:
            async with self._fallback.lock():
                stored = await self._fallback.load()
                tries += 1
                if stored is not None and self._is_new(stored):
                    return self._use(stored)
                if self._current is not None and self._clock.monotonic() < self._renew_at:
                    # _save_to_store took this token from the store while we waited for the lock.
                    return self._current
                waited = tries > 1 and self._clock.monotonic() >= without_it_from
                if waited or not self._fallback.is_down:
                    return await self._log_in(stored)
            await self._clock.sleep(STORE_RETRY_SECONDS)

    async def _log_in(self, stored: StoredToken | None) -> StoredToken:
        if self._note_early_refusal():
            raise contention_error(LOGIN.path)
        fresh = await self._login()
        # The login has invalidated the earlier tokens.
        for old in (stored, self._current):
            if old is not None and old.token != fresh.token:
                self._mark_invalid(old.token)
        self._use(fresh)
        await self._fallback.save(fresh)
        return fresh

    def refuse(self, error: MioEsimError, rejected: StoredToken) -> None:
        """Raise this error in all calls for a minute, and don't log in meanwhile.

        Args:
            error: The error of a call whose new tokens were refused too.
            rejected: The token that was refused last. If there is a newer token by now, only
                the caller gets the error.
        """
        self._mark_invalid(rejected.token)
        if self.token is None or self.token in self._invalid:
            self._keep_error(error)

    def _keep_error(self, error: MioEsimError) -> None:
        self._login_error = copy.copy(error)
        self._login_error_until = self._clock.monotonic() + REFUSAL_SECONDS
        self._refused_without_store = isinstance(error, TokenContention) and self._fallback.is_down
        self._renew_at = 0.0

    def _note_early_refusal(self) -> bool:
        """Count the current token if it was refused early; tell whether there are too many."""
        current = self._current
        if current is None or current.token not in self._invalid:
            return False
        if self._clock.time() - current.obtained_at >= TOKEN_LIFETIME - RENEW_EARLY:
            return False
        now = self._clock.monotonic()
        # Count each token once, even if the login after it failed and is tried again.
        if current.token != self._last_refused_early:
            self._last_refused_early = current.token
            self._refused_early.append(now)
            logger.warning(
                "a token was refused before it expired, so somebody else logs in on this account; "
                "give all its clients one token store"
            )
        return len(self._refused_early) == MAX_EARLY and now - self._refused_early[0] < MINUTE

    def _start_saving(self) -> None:
        """Start a task that saves the current token in a store that was down."""
        if self._fallback.may_retry and self._saving is None and not self._closed:
            self._saving = asyncio.create_task(
                self._save_to_store(), name="mioesim_async token to store"
            )
            self._saving.add_done_callback(self._saving_ended)

    def _saving_ended(self, task: asyncio.Task[None]) -> None:
        self._saving = None
        if not task.cancelled():
            task.exception()

    async def _save_to_store(self) -> None:
        try:
            async with self._fallback.lock():
                stored, current = await self._fallback.load(), self._current
                if current is None or current.token in self._invalid or self._fallback.is_down:
                    return
                if (
                    stored is not None
                    and stored.obtained_at > current.obtained_at
                    and self._is_new(stored)
                ):
                    # Another client has logged in since, which invalidated our token.
                    current = self._use(stored)
                await self._fallback.save(current)
        except ConfigurationError as error:
            # No caller waits for this task. The next login raises the error.
            self._fallback.lacks_token = False
            logger.warning("the token can't be saved in the token store: %s", error)

    def _mark_invalid(self, token: str) -> None:
        """Remember an invalid token, so that it is not used if the store still has it."""
        if token not in self._invalid:
            self._invalid.append(token)
        if token == self.token:
            # Make the next calls wait for a new token.
            self._renew_at = 0.0

    def _is_new(self, stored: StoredToken) -> bool:
        return stored.token != self.token and stored.token not in self._invalid

    def _use(self, stored: StoredToken) -> StoredToken:
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
        """Try the dialects that are left, and log in by the first that works."""
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
            if not _should_try_next(fault):
                raise fault
        raise _most_helpful(answers, variants, self._configured)


def _should_try_next(fault: MioEsimError) -> bool:
    match fault:
        case ApiError(code=code):
            return code in TRY_NEXT_CODES
        case ProtocolError(reason=reason):
            return reason == "html"
        case HttpStatusError(status=status):
            return status in TRY_NEXT_STATUSES
        case _:
            return False


def _most_helpful(
    answers: list[MioEsimError], variants: list[Dialect], configured: Dialect
) -> MioEsimError:
    """Return the most helpful of the errors, one for each dialect that was tried."""
    for answer in answers:
        if isinstance(answer, SignatureError):
            hint = _wrong_key_hint(variants, configured)
            return SignatureError(answer.endpoint, answer.code, answer.message, answer.data, hint)
    for answer in answers:
        if isinstance(answer, AuthenticationError):
            return answer
    return answers[-1]


def _wrong_key_hint(variants: list[Dialect], configured: Dialect) -> str:
    if fixed := [name for name in LOGIN_SETTINGS if getattr(configured, name) is not None]:
        set_ways = " and ".join(setting(name, repr(getattr(configured, name))) for name in fixed)
        return (
            f"the login was tried only with {set_ways}: check the secret key, or leave that out, "
            "so that all ways to sign and send a login are tried"
        )
    if len(variants) > 1:
        return (
            f"all {len(variants)} ways to sign and send a login were tried, so the secret key is "
            "wrong: check it"
        )
    return (
        f"it was signed as before ({variants[0].signature}, login as {variants[0].login_encoding})"
        ", which worked then, so the secret key is wrong: check whether it was changed"
    )


def _token_in(envelope: Envelope) -> str:
    data = envelope.data
    token = data.get("token") if isinstance(data, dict) else data
    if isinstance(token, str) and token.strip():
        return token.strip()
    raise ProtocolError("the login succeeded but its reply has no token").at(LOGIN.path)
