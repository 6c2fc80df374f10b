"""Makes calls: gets a token, sends attempts, and decides whether to try again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import evolve

from mioesim_async import errors
from mioesim_async.clock import Clock, TimeLimit
from mioesim_async.config import Credentials, RetryPolicy, Timeouts
from mioesim_async.slices import shared_slice
from mioesim_async.tokens.keeper import TokenKeeper, contention_error
from mioesim_async.tokens.store import StoredToken, TokenStore
from mioesim_async.transport.attempt import Sender
from mioesim_async.transport.call import Call, deadline_exceeded, outcome_unknown, signature_error
from mioesim_async.transport.detached import Detached, Exchange, LateAnswer
from mioesim_async.transport.failures import Action, classify
from mioesim_async.transport.metrics import ClientStats, Health, Hook, Meter, RetryBudget
from mioesim_async.transport.pace import Pace, Slots, limiter, sweep_slots
from mioesim_async.transport.pool import SessionManager
from mioesim_async.transport.read_method import MethodTrial
from mioesim_async.transport.reads import Reads
from mioesim_async.transport.retry import decide
from mioesim_async.transport.shared_rate import SharedLimiter, SharedRateLimit
from mioesim_async.wire.account import account_key, check_label, label_of_host
from mioesim_async.wire.dialect import Dialect, ReadMethod
from mioesim_async.wire.endpoints import LOGIN, Endpoint, Safety
from mioesim_async.wire.envelope import Envelope
from mioesim_async.wire.signing import Value, canonical

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["Caller", "check_deadline"]

logger = logging.getLogger("mioesim_async")

R = TypeVar("R")

MAX_REPLAYS = {Safety.READ: 3, Safety.AUTH: 0, Safety.WRITE: 1, Safety.MONEY: 1}
"""How often a call is sent again with a new token after its token was refused."""


class Caller:
    """Makes calls for one account over a session manager.

    Attributes:
        manager: The session manager.
        clock: The source of time.
        sweep_slots: How many slots sweeps may use, so that other calls find a free one.
        account: The account's key in the token store and in the journal.
        is_account_named: Whether the user gave the account a label.
    """

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
        rate_limit: float | SharedRateLimit | None,
        hooks: Sequence[Hook],
        clock: Clock,
        on_late: LateAnswer | None,
    ) -> None:
        """Make calls for one account over a session manager."""
        self.manager = manager
        self.clock = clock
        self._policy = retry
        self._probe_policy = evolve(retry, max_attempts=1)
        self.sweep_slots = sweep_slots(max_in_flight, manager.pool_size)
        self._slots = Slots(max_in_flight)
        self._slots_of_sweeps = Slots(self.sweep_slots)
        self._slots_of_purchases = Slots(max_in_flight)
        self._longest_purchase = timeouts.money
        self._reads_lock = asyncio.Lock()
        self._budget = RetryBudget(clock)
        self._meter = Meter(hooks)
        self._detached = Detached(on_late, self._note_cut_off)
        self._sender = Sender(
            credentials,
            base_url=base_url,
            manager=manager,
            timeouts=timeouts,
            clock=clock,
            meter=self._meter,
        )
        self.is_account_named = account is not None
        self.account = account_key(
            credentials.phone_number,
            label_of_host(base_url) if account is None else check_label(account),
        )
        self._limiter: AsyncLimiter | SharedLimiter | None = None
        if isinstance(rate_limit, SharedRateLimit):
            self._limiter = SharedLimiter(rate_limit, self.account, clock)
        elif rate_limit is not None:
            self._limiter = limiter(rate_limit)
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
        """The host's dialect, as far as it is known."""
        return self._keeper.dialect

    @property
    def clock_ahead(self) -> float | None:
        """By how many seconds this machine's clock is ahead of the host's; None if not known."""
        return self._sender.clock_ahead

    def health(self) -> Health:
        """Return how the client is doing, but for its journal; asks nobody."""
        keeper, meter = self._keeper, self._meter
        expires_at = keeper.expires_at
        return Health(
            token_expires_at=None
            if expires_at is None
            else datetime.fromtimestamp(expires_at, UTC),
            store_is_up=keeper.store.is_up,
            store_since=self.moment(keeper.store.since),
            is_contended=keeper.is_contended,
            last_success_at=self.moment(meter.last_success),
            last_failure_at=self.moment(meter.last_failure),
            in_flight=self._slots.taken + self._slots_of_purchases.taken,
            queued=sum(
                one.queued for one in (self._slots, self._slots_of_sweeps, self._slots_of_purchases)
            ),
        )

    def moment(self, seconds: float | None) -> datetime | None:
        """Return a time of the monotonic clock in UTC; None for None."""
        if seconds is None:
            return None
        ago = self.clock.monotonic() - seconds
        return datetime.fromtimestamp(self.clock.time() - ago, UTC)

    @property
    def longest_purchase(self) -> float:
        """Seconds that a purchase may take, from the moment when it has its connection."""
        return self._longest_purchase

    def sweep_pace(self, concurrency: int) -> Pace:
        """Cap a sweep's concurrency, so that a slot is always free for other calls."""
        if type(concurrency) is not int or concurrency <= self.sweep_slots:
            return Pace(concurrency)
        logger.info("concurrency %d is capped at %d", concurrency, self.sweep_slots)
        return Pace(self.sweep_slots)

    def stats(self) -> ClientStats:
        """Return counters of what was done so far."""
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
        """Log in, unless there is a valid token."""
        self.check_usable()
        with TimeLimit(self.clock, among=self._reads.under_way):
            await self._keeper.get()
            return
        raise self._reads.was_closed()

    @property
    def has_purchases(self) -> bool:
        """Whether purchases are under way."""
        return self._detached.are_under_way

    async def aclose(self, grace: float = 0.0, purchases: float | None = None) -> None:
        """Stop reads after ``grace`` seconds, and wait ``purchases`` seconds for purchases."""
        await self._reads.aclose(grace)
        await self._detached.wait(purchases, self.clock)
        await self._keeper.aclose()
        if isinstance(self._limiter, SharedLimiter):
            await self._limiter.aclose()
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
        """Call an endpoint, and return the envelope of a successful reply.

        Args:
            endpoint: The endpoint.
            params: The parameters, without token and signature.
            deadline: Seconds for the whole call, including the wait for a slot and the login.
            pace: The pace of the sweep that makes the call. Such a call waits for a slot of the
                sweeps, and its deadline starts when it has one.
            probe: Make only one attempt.
            items: How many things are asked for; the limit of the reply's size depends on it.

        Raises:
            MioEsimError: If the call fails.
        """
        call = self.prepare(endpoint, params, deadline=deadline, items=items)
        try:
            if endpoint.safety in (Safety.MONEY, Safety.WRITE):
                return await self.wait_for(self.start(call, self.send(call)), deadline)
            call.among = self._reads.under_way
            if probe:
                call.policy = self._probe_policy
            if pace is None:
                with call:
                    async with self._slots:
                        return await self._run(call)
            else:
                call.pace = pace
                async with self._slots_of_sweeps, self._slots:
                    if self._reads.closed:
                        raise self._reads.was_closed()
                    with call:
                        return await self._run(call)
            self._note_cut_off(call)
            raise self._reads.was_closed() if call.stopped else deadline_exceeded(call)
        except asyncio.CancelledError:
            if endpoint.safety not in (Safety.MONEY, Safety.WRITE):
                self._note_cut_off(call)
            raise
        except errors.MioEsimError as error:
            error.call_id = error.call_id or call.id
            raise

    def _note_cut_off(self, call: Call) -> None:
        if not call.is_recorded:
            self._meter.note_cut_off(call, self.clock.monotonic())

    def prepare(
        self,
        endpoint: Endpoint,
        params: Mapping[str, Value],
        *,
        deadline: float | None = None,
        items: int = 1,
    ) -> Call:
        """Check and count a call; nothing is sent yet.

        Args:
            endpoint: The endpoint.
            params: The parameters, without token and signature.
            deadline: Seconds for the whole call.
            items: How many things are asked for.

        Raises:
            InvalidRequest: If parameters or deadline can't be used.
            ClientClosed: After ``aclose``.
            WrongLoop: From another event loop than the first, or from trio.
        """
        self.check_usable()
        if deadline is not None:
            check_deadline(deadline)
        call = Call(
            self.clock,
            deadline,
            endpoint=endpoint,
            texts=canonical(params),
            policy=self._policy,
            items=items,
            reserved=endpoint.safety is Safety.MONEY,
            began=self.clock.monotonic(),
        )
        self._budget.count(calls=1)
        return call

    def start(self, call: Call, work: Coroutine[Any, Any, R]) -> Exchange[R]:
        """Run the work of a call that must not be repeated, in a task of its own.

        Args:
            call: The call.
            work: Sends the call, and does what comes before and after.
        """
        return self._detached.start(call, work)

    async def wait_for(self, exchange: Exchange[R], deadline: float | None) -> R:
        """Wait for the result of ``start``.

        If all callers are cancelled or their deadlines pass, a call that was sent goes on until
        its own time-out. A call that was not sent is stopped.

        Raises:
            OutcomeUnknown: If the deadline passed, and the call was sent or goes on for others.
            OrderIncomplete: If the deadline passed when the order number was known.
            MioEsimError: If the work raises it.
        """
        return await self._detached.wait_for(exchange, deadline)

    async def send(self, call: Call) -> Envelope:
        """Wait for a slot and send a call; used in the work of ``start``.

        Raises:
            MioEsimError: If the call fails.
        """
        async with self._slots_of_purchases if call.reserved else self._slots:
            return await self._run(call)

    async def read_for(
        self, purchase: Call, endpoint: Endpoint, params: Mapping[str, Value]
    ) -> Envelope:
        """Read something for a purchase: retried like a read, in a slot for purchases.

        Closing the client doesn't stop it, since the order was paid for.

        Raises:
            MioEsimError: If the call fails.
        """
        texts = canonical(params)
        return await self.send(
            Call(self.clock, endpoint=endpoint, texts=texts, policy=purchase.policy, reserved=True)
        )

    async def _run(self, call: Call) -> Envelope:
        """Make attempts until one succeeds, or until the call must not be tried again."""
        by_get, keeper, pace = call.endpoint.is_read_by_get, self._keeper, call.pace
        if by_get and keeper.dialect.read_method is None:
            call.trial = MethodTrial(keeper)
        while True:
            token = await keeper.get(call.rejected)
            shared = shared_slice()
            if shared.is_used_up():
                await shared.wait_for_next()
            dialect, trial = keeper.dialect, call.trial
            if trial is not None:
                method = trial.method
            else:
                method = (dialect.read_method or "GET") if by_get else "POST"
            request = self._sender.prepare(call, token, dialect, method)
            if self._limiter is not None:
                await self._wait_for_rate_limit(self._limiter, call)
            sent_in = 0 if pace is None else pace.round
            call.attempt += 1
            try:
                envelope = await self._sender.send(call, request, token)
            except errors.MioEsimError as error:
                failed = error
            else:
                if pace is not None and pace.limit < pace.cap:
                    pace.answered()
                if trial is not None:
                    trial.answered(method)
                return envelope
            await self._prepare_next_attempt(call, failed, token, method, sent_in)

    async def _prepare_next_attempt(
        self,
        call: Call,
        failed: errors.MioEsimError,
        token: StoredToken,
        method: ReadMethod,
        sent_in: int,
    ) -> None:
        """Wait until the next attempt may be made, or raise if there must be none.

        Args:
            call: The call.
            failed: The error of the last attempt.
            token: The token of that attempt.
            method: The method of that attempt.
            sent_in: The round of the call's pace in which that attempt was sent.
        """
        keeper, trial = self._keeper, call.trial
        if call.pace is not None and _is_throttle(failed):
            call.pace.throttled(sent_in)
        if isinstance(failed, errors.SignatureError):
            failed = signature_error(call, failed, logged_in=keeper.logins > 0)
        call.last_error = failed
        if isinstance(failed, errors.TokenExpired):
            if call.replays == MAX_REPLAYS[call.endpoint.safety]:
                contention = contention_error(call.endpoint.path, failed)
                keeper.refuse(contention, token)
                raise contention
            call.rejected = token
            call.attempt, call.replays = call.attempt - 1, call.replays + 1
            self._meter.replays += 1
            call.progress = None
            return
        if trial is not None:
            if self._budget.has_room and trial.should_try_post(method, failed):
                # Trying the other method doesn't count as a retry.
                call.attempt -= 1
                return
            if trial.is_trying_post:
                # POST failed too. Count it, so that the budget limits such tries.
                self._budget.count(retries=1)
            failed = call.last_error = trial.settle(method, failed)
        await self._wait_or_raise(call, failed)

    async def _wait_for_rate_limit(self, limiter: AsyncLimiter | SharedLimiter, call: Call) -> None:
        """Wait until ``rate_limit`` allows a request.

        An ``AsyncLimiter`` serves waiters in their order. Reads wait for a lock first, so that at
        most one read waits in front of a purchase or a login. A shared limit never delays these.
        """
        if not (call.reserved or call.endpoint is LOGIN):
            async with self._reads_lock:
                await limiter.acquire()
        elif isinstance(limiter, SharedLimiter):
            limiter.count()
        else:
            await limiter.acquire()

    async def _wait_or_raise(self, call: Call, failed: errors.MioEsimError) -> None:
        safety = call.endpoint.safety
        decision = decide(
            safety=safety,
            failure=classify(failed, safety, sent=call.was_sent),
            attempt=call.attempt,
            policy=call.policy,
            time_left=call.expires - self.clock.monotonic(),
            retry_after=getattr(failed, "retry_after", None),
        )
        if decision.action is Action.DEADLINE:
            call.is_late = True
            self._note_cut_off(call)
            raise deadline_exceeded(call)
        if decision.action is Action.UNKNOWN:
            raise outcome_unknown(call, failed)
        if decision.action is Action.RAISE or not self._budget.take_retry():
            raise self._final_error(failed)
        logger.debug(
            "%s: %s; next attempt in %.2f s (call %s)",
            call.endpoint.path,
            type(failed).__name__,
            decision.delay,
            call.id,
        )
        self._meter.retries += 1
        await self.clock.sleep(decision.delay)

    def _final_error(self, failed: errors.MioEsimError) -> errors.MioEsimError:
        """Return the error, as ``RateLimited`` if the host asks for too long a wait."""
        wait = getattr(failed, "retry_after", None) or 0.0
        if wait > self._policy.max_retry_after and isinstance(failed, errors.HttpStatusError):
            return errors.RateLimited(str(failed), wait).at(failed.endpoint)
        return failed

    async def _send_login(self, dialect: Dialect, only: bool) -> Envelope:
        """Log in by one dialect; network errors and 5xx are tried again as for a read."""
        call = Call(self.clock, endpoint=LOGIN, texts={}, policy=self._policy)
        request = self._sender.prepare_login(dialect)
        self._budget.count(calls=1)
        while True:
            call.attempt += 1
            if self._limiter is not None:
                await self._wait_for_rate_limit(self._limiter, call)
            try:
                return await self._sender.send(call, request)
            except errors.MioEsimError as error:
                failed = error
            if isinstance(failed, errors.ProtocolError) and failed.reason == "html" and not only:
                raise failed
            await self._wait_or_raise(call, failed)


def check_deadline(deadline: object) -> None:
    """Check a deadline.

    Raises:
        InvalidRequest: If it is neither None nor more than 0 seconds.
    """
    if deadline is not None and not (isinstance(deadline, int | float) and deadline > 0):
        raise errors.InvalidRequest(f"deadline must be more than 0 seconds, not {deadline!r}")


def _is_throttle(failed: errors.MioEsimError) -> bool:
    busy = isinstance(failed, errors.HttpStatusError) and failed.status == 503
    return busy or isinstance(failed, errors.RateLimited)
