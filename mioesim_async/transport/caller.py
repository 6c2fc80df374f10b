"""One call, from parameters to envelope: token, attempt, decide, again."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import Factory, define, evolve, frozen

from mioesim_async import errors
from mioesim_async.tokens.store import TokenStore, account_key
from mioesim_async.transport.attempt import Sender
from mioesim_async.transport.clock import Clock, TimeLimit
from mioesim_async.transport.config import Credentials, RetryPolicy, Timeouts
from mioesim_async.transport.login import TokenKeeper
from mioesim_async.transport.manager import Progress, SessionManager
from mioesim_async.transport.retry import Action, classify, decide
from mioesim_async.wire.dialect import Dialect, ReadMethod
from mioesim_async.wire.endpoints import LOGIN, Endpoint, Safety
from mioesim_async.wire.envelope import Envelope
from mioesim_async.wire.signing import Value, canonical

__all__ = ["Caller", "ClientStats"]

logger = logging.getLogger("mioesim_async")

MAX_REPLAYS = {Safety.READ: 3, Safety.AUTH: 0, Safety.WRITE: 1, Safety.MONEY: 1}
"""How often a call that was refused with its token is sent again with a new one."""

NOT_UNDERSTOOD = frozenset({-2, -30})
"""Codes that may mean that the host didn't see the parameters where they were."""

CONTENTION = (
    "each new token was refused at once, so somebody else keeps logging in on this account; "
    "give all its processes one token store, or an account each"
)

LateAnswer = Callable[[Any], object]


@frozen
class ClientStats:
    """What a client did so far.

    Attributes:
        requests: Requests sent, logins included.
        retries: How many of them were repetitions after a failure.
        replays: How many were repetitions with a new token.
        logins: Logins that succeeded.
        connections: Connections used by the session manager, for all its clients.
    """

    requests: int
    retries: int
    replays: int
    logins: int
    connections: int


@define
class _Call:
    """What one call has been through.

    Attributes:
        endpoint: Its row.
        texts: Its parameters, as text.
        policy: How often to try.
        expires: When its deadline passes, on the clock's monotonic time.
        progress: Of the attempt under way.
        last_error: What the last attempt ended with.
    """

    endpoint: Endpoint
    texts: dict[str, str]
    policy: RetryPolicy
    expires: float = math.inf
    progress: Progress = Factory(Progress)
    last_error: errors.MioEsimError | None = None


class Caller:
    """Makes calls for one account over a session manager."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        base_url: str,
        dialect: Dialect,
        manager: SessionManager,
        store: TokenStore,
        retry: RetryPolicy,
        timeouts: Timeouts,
        max_in_flight: int,
        clock: Clock,
        on_late: LateAnswer | None,
    ) -> None:
        """Wire one account to a session manager."""
        self.manager = manager
        self.clock = clock
        self.max_in_flight = max_in_flight
        self._policy = retry
        self._probe_policy = evolve(retry, max_attempts=1)
        self._gate = asyncio.Semaphore(max_in_flight)
        self._on_late = on_late
        self._sender = Sender(
            credentials, base_url=base_url, manager=manager, timeouts=timeouts, clock=clock
        )
        self._keeper = TokenKeeper(
            store=store,
            key=account_key(base_url, credentials.phone_number),
            dialect=dialect,
            clock=clock,
            send=self._send_login,
        )
        self._purchases: set[asyncio.Task[Envelope]] = set()
        self._closed = False
        self._requests = self._retries = self._replays = 0

    @property
    def dialect(self) -> Dialect:
        """The dialect, with what was found out so far."""
        return self._keeper.dialect

    def stats(self) -> ClientStats:
        """Return what was done so far."""
        return ClientStats(
            requests=self._requests,
            retries=self._retries,
            replays=self._replays,
            logins=self._keeper.logins,
            connections=self.manager.connections,
        )

    def check_usable(self) -> None:
        """Refuse use after ``aclose`` and from a second loop.

        Raises:
            ClientClosed: After ``aclose``.
            WrongLoop: From another event loop than the first.
        """
        if self._closed:
            raise errors.ClientClosed("the client is closed; make a new one")
        self.manager.check_usable()

    async def login(self) -> None:
        """Make sure that there is a live token."""
        self.check_usable()
        await self._keeper.get()

    async def aclose(self) -> None:
        """Wait for purchases under way, each ends by its own time-out, and stop the login."""
        self._closed = True
        while self._purchases:
            await asyncio.wait(self._purchases)
        await self._keeper.aclose()

    async def call(
        self,
        endpoint: Endpoint,
        params: Mapping[str, Value],
        *,
        deadline: float | None = None,
        sweep: bool = False,
        probe: bool = False,
    ) -> Envelope:
        """Call an endpoint and return its envelope, whose code is success.

        Args:
            endpoint: Its row.
            params: Its parameters, without token and sign.
            deadline: Seconds for everything, waiting for a slot and logging in included.
            sweep: The deadline starts when the call has its slot.
            probe: Make one attempt only.

        Raises:
            MioEsimError: As its tree says.
        """
        self.check_usable()
        if deadline is not None and not deadline > 0:
            raise errors.InvalidRequest(f"deadline must be more than 0 seconds, not {deadline!r}")
        policy = self._probe_policy if probe else self._policy
        call = _Call(endpoint, canonical(params), policy)
        if endpoint.safety in (Safety.MONEY, Safety.WRITE):
            return await self._call_once(call, deadline)
        if deadline is None:
            return await self._gated(call)
        if sweep:
            async with self._gate:
                return await self._within(call, deadline, self._run)
        return await self._within(call, deadline, self._gated)

    async def _gated(self, call: _Call) -> Envelope:
        async with self._gate:
            return await self._run(call)

    async def _within(
        self, call: _Call, deadline: float, run: Callable[[_Call], Awaitable[Envelope]]
    ) -> Envelope:
        call.expires = self.clock.monotonic() + deadline
        try:
            async with TimeLimit(self.clock, deadline):
                return await run(call)
        except errors.MioEsimError:
            raise
        except TimeoutError:
            pass
        raise _too_late(call)

    async def _call_once(self, call: _Call, deadline: float | None) -> Envelope:
        """Make a call that must not be repeated, in a task that outlives its caller."""
        task = asyncio.create_task(self._gated(call), name="mioesim_async purchase")
        self._purchases.add(task)
        task.add_done_callback(self._purchases.discard)
        if deadline is not None:
            call.expires = self.clock.monotonic() + deadline
        try:
            async with TimeLimit(self.clock, deadline):
                return await asyncio.shield(task)
        except errors.MioEsimError:
            raise
        except asyncio.CancelledError:
            self._leave(call, task)
            raise
        except TimeoutError:
            self._leave(call, task)
        raise _unknown(call, _too_late(call)) if call.progress.sent else _too_late(call)

    def _leave(self, call: _Call, task: asyncio.Task[Envelope]) -> None:
        """Let an exchange that was sent go on without its caller; stop one that was not."""
        if task.done() or call.progress.sent:
            task.add_done_callback(lambda done: self._report_late(call, done))
        else:
            task.cancel()

    def _report_late(self, call: _Call, task: asyncio.Task[Envelope]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        logger.warning(
            "%s: the caller had gone when the answer came: %s (otherOrderId %s, orderNum %s)",
            call.endpoint.path,
            "success" if error is None else f"{type(error).__name__}: {error}",
            call.texts.get("otherOrderId"),
            call.texts.get("orderNum"),
        )
        if self._on_late is not None and call.endpoint.safety is Safety.MONEY:
            try:
                self._on_late(task.result().data if error is None else error)
            except Exception:
                logger.exception("on_late_order raised")

    async def _run(self, call: _Call) -> Envelope:
        """Attempt until the call is answered or the rules say stop."""
        endpoint = call.endpoint
        attempt, replays = 0, 0
        rejected: str | None = None
        other_method: ReadMethod | None = None
        while True:
            grant = await self._keeper.get(rejected)
            probing = endpoint.safety is Safety.READ and self._keeper.dialect.read_method is None
            method = other_method or self._method(endpoint)
            request = self._sender.prepare(endpoint, call.texts, grant.token, grant.dialect, method)
            attempt += 1
            self._requests += 1
            call.progress = Progress()
            try:
                envelope = await self._sender.send(endpoint, request, call.progress, grant.token)
            except errors.MioEsimError as error:
                failed = error
            else:
                if probing:
                    self._keeper.learn_read_method(method)
                return envelope
            call.last_error = failed
            if isinstance(failed, errors.TokenExpired):
                if replays == MAX_REPLAYS[endpoint.safety]:
                    raise _contended(failed)
                rejected = grant.token
                attempt, replays = attempt - 1, replays + 1
                self._replays += 1
                call.progress.sent = False
                continue
            if probing:
                if other_method is None and method == "GET" and _wants_post(failed):
                    # Not a retry: a look at whether reads go by POST here.
                    attempt, other_method = attempt - 1, "POST"
                    continue
                if isinstance(failed, errors.ApiError) and failed.code not in NOT_UNDERSTOOD:
                    self._keeper.learn_read_method(method)
                other_method = None
            await self._wait_or_raise(call, failed, attempt)

    def _method(self, endpoint: Endpoint) -> ReadMethod:
        if endpoint.safety is not Safety.READ:
            return "POST"
        return self._keeper.dialect.read_method or endpoint.method

    async def _wait_or_raise(self, call: _Call, failed: errors.MioEsimError, attempt: int) -> None:
        safety = call.endpoint.safety
        decision = decide(
            safety=safety,
            failure=classify(failed, safety, sent=call.progress.sent),
            attempt=attempt,
            policy=call.policy,
            time_left=call.expires - self.clock.monotonic(),
            retry_after=getattr(failed, "retry_after", None),
        )
        if decision.action is Action.DEADLINE:
            raise _too_late(call)
        if decision.action is Action.UNKNOWN:
            raise _unknown(call, failed)
        if decision.action is Action.RAISE:
            raise failed
        logger.debug(
            "%s: %s; next attempt in %.2f s",
            call.endpoint.path,
            type(failed).__name__,
            decision.delay,
        )
        self._retries += 1
        await self.clock.sleep(decision.delay)

    async def _send_login(self, dialect: Dialect, only: bool) -> Envelope:
        """Log in by one variant; transport failures and 5xx are retried like a read's."""
        call = _Call(LOGIN, {}, self._policy)
        request = self._sender.prepare_login(dialect)
        attempt = 0
        while True:
            attempt += 1
            self._requests += 1
            call.progress = Progress()
            try:
                return await self._sender.send(LOGIN, request, call.progress)
            except errors.MioEsimError as error:
                failed = error
            if isinstance(failed, errors.ProtocolError) and failed.reason == "html" and not only:
                raise failed
            await self._wait_or_raise(call, failed, attempt)


def _wants_post(failed: errors.MioEsimError) -> bool:
    """Tell whether an answer to a GET suggests that the host wants a POST."""
    if isinstance(failed, errors.HttpStatusError):
        return failed.status == 405
    return isinstance(failed, errors.ProtocolError) and failed.reason == "html"


def _contended(refused: errors.ApiError) -> errors.TokenContention:
    return errors.TokenContention(
        refused.endpoint, refused.code, refused.message, refused.data, CONTENTION
    )


def _too_late(call: _Call) -> errors.DeadlineExceeded:
    path, last = call.endpoint.path, call.last_error
    message = f"{path}: the deadline passed before there was an answer"
    return errors.DeadlineExceeded(
        f"{message}; the last attempt: {last}" if last else message, last
    ).at(path)


def _unknown(call: _Call, failed: errors.MioEsimError) -> errors.OutcomeUnknown:
    path = call.endpoint.path
    reference, order_num = call.texts.get("otherOrderId"), call.texts.get("orderNum")
    where = f"reference {reference}" if reference else "the account's last orders"
    return errors.OutcomeUnknown(
        f"{path} may or may not have been executed, and was not sent again; "
        f"before you repeat it, look for {where}. The cause: {failed}",
        other_order_id=reference,
        order_num=order_num,
        data=getattr(failed, "data", None),
        last_error=failed,
    ).at(path)
