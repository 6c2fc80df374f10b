"""One call, from parameters to envelope: token, attempt, decide, again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve

from mioesim_async import errors
from mioesim_async.clock import Clock
from mioesim_async.config import Credentials, RetryPolicy, Timeouts
from mioesim_async.slices import turns
from mioesim_async.tokens.keeper import TokenKeeper, contended
from mioesim_async.tokens.store import StoredToken, TokenStore
from mioesim_async.transport.attempt import Sender
from mioesim_async.transport.call import Call, too_late, unknown, wrongly_signed
from mioesim_async.transport.detached import Exchange, LateAnswer, Purchases
from mioesim_async.transport.failures import Action, classify
from mioesim_async.transport.http import Progress, Request
from mioesim_async.transport.metrics import AttemptRecord, ClientStats, Hook, Meter
from mioesim_async.transport.pace import Pace, limiter, sweep_slots
from mioesim_async.transport.pool import SessionManager
from mioesim_async.transport.read_method import MethodLook
from mioesim_async.transport.reads import Read, Reads
from mioesim_async.transport.retry import RetryBudget, decide
from mioesim_async.wire.account import account_key, check_label, label_of_host
from mioesim_async.wire.dialect import Dialect
from mioesim_async.wire.endpoints import LOGIN, Endpoint, Safety
from mioesim_async.wire.envelope import Envelope
from mioesim_async.wire.signing import Value, canonical

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["Caller", "check_deadline"]

logger = logging.getLogger("mioesim_async")

R = TypeVar("R")

MAX_REPLAYS = {Safety.READ: 3, Safety.AUTH: 0, Safety.WRITE: 1, Safety.MONEY: 1}
"""How often a call that was refused with its token is sent again with a new one."""


class Caller:
    """Makes calls for one account over a session manager."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        base_url: str,
        account: str | None,
        dialect: Dialect,
        manager: SessionManager,
        store: TokenStore,
        retry: RetryPolicy,
        timeouts: Timeouts,
        max_in_flight: int,
        rate_limit: float | None,
        hooks: Sequence[Hook],
        clock: Clock,
        on_late: LateAnswer | None,
    ) -> None:
        """Wire one account to a session manager."""
        self.manager = manager
        self.clock = clock
        self._policy = retry
        self._probe_policy = evolve(retry, max_attempts=1)
        self._max_in_flight = max_in_flight
        self._gate = asyncio.Semaphore(max_in_flight)
        self._sweep_gate = asyncio.Semaphore(self.sweep_slots)
        self._purchase_gate = asyncio.Semaphore(max_in_flight)
        self._limiter = None if rate_limit is None else limiter(rate_limit)
        self._reads_turn = asyncio.Lock()
        self._budget = RetryBudget(clock)
        self._meter = Meter(hooks)
        self._purchases = Purchases(clock, on_late)
        self._sender = Sender(
            credentials, base_url=base_url, manager=manager, timeouts=timeouts, clock=clock
        )
        self.is_account_named = account is not None
        self.account = account_key(
            credentials.phone_number,
            label_of_host(base_url) if account is None else check_label(account),
        )
        self._keeper = TokenKeeper(
            store=store,
            key=self.account,
            dialect=dialect,
            clock=clock,
            send=self._send_login,
        )
        self._reads = Reads(clock)

    @property
    def dialect(self) -> Dialect:
        """The dialect, with what was found out so far."""
        return self._keeper.dialect

    @property
    def clock_ahead(self) -> float | None:
        """By how many seconds this machine's clock is ahead of the host's; None if not known."""
        return self._sender.clock_ahead

    @property
    def sweep_slots(self) -> int:
        """How many calls of sweeps may be under way, so that others find a free slot."""
        return sweep_slots(self._max_in_flight, self.manager.pool_size)

    def stats(self) -> ClientStats:
        """Return what was done so far."""
        meter = self._meter
        return ClientStats(
            requests=meter.requests,
            failures=meter.failures,
            retries=meter.retries,
            replays=meter.replays,
            logins=self._keeper.logins,
            connections=self.manager.connections,
            seconds=meter.seconds,
            waited=meter.waited,
            bytes=meter.bytes,
        )

    def check_usable(self) -> None:
        """Refuse use after ``aclose`` and from a second loop.

        Raises:
            ClientClosed: After ``aclose``.
            WrongLoop: From another event loop than the first, or from trio.
        """
        if self._reads.closed:
            raise errors.ClientClosed("the client is closed; make a new one")
        self.manager.check_usable()

    async def login(self) -> None:
        """Make sure that there is a live token."""
        self.check_usable()
        with Read(self._reads, None, None) as read:
            await self._keeper.get()
            return
        raise read.error()

    @property
    def has_purchases(self) -> bool:
        """Whether purchases are under way."""
        return self._purchases.are_under_way

    async def aclose(self, grace: float = 0.0) -> None:
        """Let reads finish for so many seconds, end those that don't, and wait for purchases."""
        await self._reads.aclose(grace)
        await self._purchases.wait()
        await self._keeper.aclose()
        self._sender.close()

    async def call(
        self,
        endpoint: Endpoint,
        params: Mapping[str, Value],
        *,
        deadline: float | None = None,
        pace: Pace | None = None,
        probe: bool = False,
        items: int = 1,
    ) -> Envelope:
        """Call an endpoint and return its envelope, whose code is success.

        Args:
            endpoint: Its row.
            params: Its parameters, without token and sign.
            deadline: Seconds for everything, waiting for a slot and logging in included.
            pace: Of the sweep that makes the call. It then waits for a slot of the sweeps,
                and its deadline starts when it has one.
            probe: Make one attempt only.
            items: How many things are asked for; a reply may be as large as that needs.

        Raises:
            MioEsimError: As its tree says.
        """
        self.check_usable()
        check_deadline(deadline)
        policy = self._probe_policy if probe else self._policy
        reserved = endpoint.safety is Safety.MONEY
        call = Call(endpoint, canonical(params), policy, pace, probe, items, reserved)
        self._budget.count_call()
        if endpoint.safety in (Safety.MONEY, Safety.WRITE):
            return await self._purchases.run(call, self._gated(call), deadline)
        read = Read(self._reads, call, deadline)
        if pace is None:
            with read:
                return await self._gated(call)
        else:
            async with self._sweep_gate, self._gate:
                with read:
                    return await self._run(call)
        raise read.error()

    async def purchase(
        self,
        endpoint: Endpoint,
        params: Mapping[str, Value],
        conduct: Callable[[Exchange], Coroutine[Any, Any, R]],
        *,
        items: int,
        deadline: float | None = None,
    ) -> R:
        """Run a purchase, with all that belongs to it, in a task that outlives its caller.

        Args:
            endpoint: Its row.
            params: Its parameters, without token and sign.
            conduct: Sends the exchange that it is given, and does what comes before and after.
            items: How many cards it is for.
            deadline: Seconds for everything.

        Raises:
            MioEsimError: As its tree says.
        """
        self.check_usable()
        check_deadline(deadline)
        call = Call(endpoint, canonical(params), self._policy, items=items, reserved=True)
        self._budget.count_call()
        exchange = Exchange(call, self._gated)
        return await self._purchases.run(call, conduct(exchange), deadline)

    async def _gated(self, call: Call) -> Envelope:
        async with self._purchase_gate if call.reserved else self._gate:
            return await self._run(call)

    async def _run(self, call: Call) -> Envelope:
        """Attempt until the call is answered or the rules say stop."""
        endpoint, keeper = call.endpoint, self._keeper
        look = MethodLook(endpoint, keeper)
        replays = 0
        rejected: StoredToken | None = None
        failed: errors.MioEsimError
        while True:
            token = await keeper.get(rejected)
            method = look.method
            turn = turns()
            if turn.is_over():
                await turn.next()
            request = self._sender.prepare(
                endpoint,
                call.texts,
                token,
                keeper.dialect,
                method,
                items=call.items,
                reserved=call.reserved,
            )
            call.attempt += 1
            try:
                envelope = await self._attempt(call, request, token)
            except errors.SignatureError as error:
                failed = wrongly_signed(call, error, logged_in=keeper.logins > 0)
            except errors.MioEsimError as error:
                failed = error
            else:
                look.answered(method)
                return envelope
            call.last_error = failed
            if isinstance(failed, errors.TokenExpired):
                if replays == MAX_REPLAYS[endpoint.safety]:
                    contention = contended(endpoint.path, failed)
                    keeper.refuse(contention, token)
                    raise contention
                rejected = token
                call.attempt, replays = call.attempt - 1, replays + 1
                self._meter.replays += 1
                call.progress.sent = False
            elif self._budget.has_room and look.goes_on_by_post(method, failed):
                # Not a retry: a look at whether reads go by POST here.
                call.attempt -= 1
            else:
                if look.is_under_way:
                    # It was in vain, so the budget bounds how many there are.
                    self._budget.charge()
                call.last_error = look.verdict(method, failed)
                await self._wait_or_raise(call, call.last_error)

    async def _attempt(
        self, call: Call, request: Request, token: StoredToken | None = None
    ) -> Envelope:
        """Send once, and measure it."""
        if self._limiter is not None:
            await self._pass_limiter(self._limiter, call)
        pace = call.pace
        sent_in = 0 if pace is None else pace.round
        progress = call.progress = Progress()
        began = self.clock.monotonic()
        failed: BaseException | None = None
        try:
            envelope = await self._sender.send(
                call.endpoint, request, progress, token, items=call.items
            )
        except BaseException as error:
            failed = error
            if pace is not None and _is_throttle(error):
                pace.throttled(sent_in)
            raise
        else:
            if pace is not None:
                pace.answered()
            return envelope
        finally:
            self._measure(call, began, failed)

    async def _pass_limiter(self, limiter: AsyncLimiter, call: Call) -> None:
        """Wait for the rate's next turn; it is given to whoever came first.

        Reads wait for a lock before that, so that a purchase, and a login that it may wait for,
        has one of them before it at most.
        """
        if call.reserved or call.endpoint is LOGIN:
            await limiter.acquire()
        else:
            async with self._reads_turn:
                await limiter.acquire()

    def _measure(self, call: Call, began: float, failed: BaseException | None) -> None:
        progress, meter = call.progress, self._meter
        ended = self.clock.monotonic()
        connected = progress.sent_at if progress.sent else ended
        duration, waited = ended - connected, connected - began
        meter.requests += 1
        meter.failures += failed is not None
        meter.seconds += duration
        meter.waited += waited
        meter.bytes += progress.size
        if meter.hooks:
            meter.tell_hooks(
                AttemptRecord(
                    endpoint=call.endpoint.path,
                    safety=call.endpoint.safety,
                    attempt=call.attempt,
                    status=progress.status,
                    code=progress.code,
                    error=None if failed is None else type(failed).__name__,
                    duration=duration,
                    waited=waited,
                    bytes=progress.size,
                )
            )

    async def _wait_or_raise(self, call: Call, failed: errors.MioEsimError) -> None:
        safety = call.endpoint.safety
        decision = decide(
            safety=safety,
            failure=classify(failed, safety, sent=call.progress.sent),
            attempt=call.attempt,
            policy=call.policy,
            time_left=call.expires - self.clock.monotonic(),
            retry_after=getattr(failed, "retry_after", None),
        )
        if decision.action is Action.DEADLINE:
            raise too_late(call)
        if decision.action is Action.UNKNOWN:
            raise unknown(call, failed)
        if decision.action is Action.RAISE or not self._budget.take_retry():
            raise self._as_raised(failed)
        logger.debug(
            "%s: %s; next attempt in %.2f s",
            call.endpoint.path,
            type(failed).__name__,
            decision.delay,
        )
        self._meter.retries += 1
        await self.clock.sleep(decision.delay)

    def _as_raised(self, failed: errors.MioEsimError) -> errors.MioEsimError:
        """Say that a host asks for too long a wait, whichever status it asks with."""
        wait = getattr(failed, "retry_after", None) or 0.0
        if wait > self._policy.max_retry_after and isinstance(failed, errors.HttpStatusError):
            return errors.RateLimited(str(failed), wait).at(failed.endpoint)
        return failed

    async def _send_login(self, dialect: Dialect, only: bool) -> Envelope:
        """Log in by one variant; transport failures and 5xx are retried like a read's."""
        call = Call(LOGIN, {}, self._policy)
        request = self._sender.prepare_login(dialect)
        self._budget.count_call()
        while True:
            call.attempt += 1
            try:
                return await self._attempt(call, request)
            except errors.MioEsimError as error:
                failed = error
            if isinstance(failed, errors.ProtocolError) and failed.reason == "html" and not only:
                raise failed
            await self._wait_or_raise(call, failed)


def check_deadline(deadline: object) -> None:
    """Refuse a deadline that is not a number of seconds above zero.

    Raises:
        InvalidRequest: If it is not None and not more than 0 seconds.
    """
    if deadline is not None and not (isinstance(deadline, int | float) and deadline > 0):
        raise errors.InvalidRequest(f"deadline must be more than 0 seconds, not {deadline!r}")


def _is_throttle(failed: BaseException) -> bool:
    """Tell whether the host asks to go slower."""
    busy = isinstance(failed, errors.HttpStatusError) and failed.status == 503
    return busy or isinstance(failed, errors.RateLimited)
