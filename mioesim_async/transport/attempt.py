"""One attempt: build the request, send it, and read the reply or raise an error."""

from __future__ import annotations

import math

import aiohttp
import orjson

from mioesim_async import errors
from mioesim_async.clock import Clock
from mioesim_async.config import Credentials, Timeouts
from mioesim_async.slices import in_slices, shared_slice
from mioesim_async.tokens.store import StoredToken
from mioesim_async.transport.attempt_timer import AttemptTimer, Progress
from mioesim_async.transport.call import Call
from mioesim_async.transport.http import FORM, RawReply, Request, excerpts_of
from mioesim_async.transport.metrics import Meter
from mioesim_async.transport.pool import SessionManager
from mioesim_async.transport.retry import parse_http_date, parse_retry_after
from mioesim_async.wire.depth import MAX_DEPTH, cut
from mioesim_async.wire.dialect import Dialect
from mioesim_async.wire.endpoints import LOGIN, Endpoint, Safety
from mioesim_async.wire.envelope import Envelope, parse_envelope, parse_in_steps
from mioesim_async.wire.masking import masked_start
from mioesim_async.wire.signing import signed_query
from mioesim_async.wording import worded

__all__ = ["Sender"]

JSON = "application/json"
SMALL_BODY = 32 * 1024


class Sender:
    """Sends single requests of one account.

    Attributes:
        clock_ahead: By how many seconds this machine's clock is ahead of the host's, by the last
            ``Date`` header; None before the first.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        base_url: str,
        manager: SessionManager,
        timeouts: Timeouts,
        clock: Clock,
        meter: Meter,
    ) -> None:
        """Send the requests of an account over a session manager."""
        self._credentials = credentials
        self._secret_key = credentials.secret_key
        self._base_url = base_url
        self._manager = manager
        self._clock = clock
        self.clock_ahead: float | None = None
        self._last_date: str | None = None
        self._their_time: float | None = None
        self._meter = meter
        self._timer = AttemptTimer(clock, whole=timeouts.attempt, silence=timeouts.read)
        self._money_timer = AttemptTimer(clock, whole=timeouts.money, silence=timeouts.money)
        self._connect = timeouts.connect
        self._sockets = aiohttp.ClientTimeout(
            total=None, sock_connect=None if self._connect == math.inf else self._connect
        )

    def close(self) -> None:
        """Stop the timers."""
        self._timer.close()
        self._money_timer.close()

    def prepare(self, call: Call, token: StoredToken, dialect: Dialect, method: str) -> Request:
        """Sign a call, and return its request.

        Args:
            call: The call.
            token: The token.
            dialect: The host's dialect.
            method: GET or POST.
        """
        texts = {**call.texts, "token": token.token}
        text, signature = signed_query(texts, self._secret_key, dialect.signature or "plain")
        endpoint = call.endpoint
        url, is_get = self._base_url + endpoint.path, method == "GET"
        return Request(
            method,
            f"{url}?{text}" if is_get else url,
            None if is_get else text.encode(),
            "" if is_get else FORM,
            self._sockets,
            signature,
            1024 * (endpoint.max_kib + call.items * endpoint.kib_per_item),
            is_purchase=endpoint.safety is Safety.MONEY,
            reserved=call.reserved,
        )

    def prepare_login(self, dialect: Dialect) -> Request:
        """Sign a login by a dialect that is fully known, and return its request."""
        texts = {
            "phonenumber": self._credentials.phone_number,
            "password": self._credentials.password,
        }
        text, signature = signed_query(texts, self._secret_key, dialect.signature or "plain")
        url, limit = self._base_url + LOGIN.path, 1024 * LOGIN.max_kib
        if dialect.login_encoding == "query":
            return Request("GET", f"{url}?{text}", None, "", self._sockets, signature, limit)
        body, content_type = text.encode(), FORM
        if dialect.login_encoding == "json":
            body, content_type = orjson.dumps(texts | {"sign": signature}), JSON
        return Request("POST", url, body, content_type, self._sockets, signature, limit)

    async def send(
        self, call: Call, request: Request, token: StoredToken | None = None
    ) -> Envelope:
        """Send a request once, and return the envelope of a successful reply.

        Args:
            call: The call that the attempt belongs to; its ``progress`` is set.
            request: The request from ``prepare``.
            token: The token in the request, which is masked in the vendor's messages.

        Raises:
            MioEsimError: If the attempt fails, or the vendor's code is not success.
        """
        path, is_money = call.endpoint.path, call.endpoint.safety is Safety.MONEY
        timer = self._money_timer if is_money else self._timer
        progress = call.progress = Progress(self._clock, timer=timer, connect=self._connect)
        began = self._clock.monotonic()
        failed: BaseException | None = None
        reply: RawReply | None = None
        try:
            with progress:
                reply = await self._manager.send(request, progress)
            if reply is None:
                raise self._too_slow(path, progress, is_money=is_money)
            progress.status, progress.size = reply.status, len(reply.body)
            if reply.date != self._last_date:
                # Parsed once: many replies come within one second, with the same date.
                self._last_date, self._their_time = reply.date, parse_http_date(reply.date)
            if self._their_time is not None:
                self.clock_ahead = self._clock.time() - self._their_time
            if not 200 <= reply.status < 300:
                raise self._refused_status(call.endpoint, reply)
            envelope = await _read(call, request, reply)
            code = envelope.code
            if type(code) is str:
                code = self._masked(code, request, token)
            progress.code = code
            if code != call.endpoint.success:
                raise self._refused(call.endpoint, code, envelope, request, token)
            return envelope
        except errors.MioEsimError as error:
            failed = error
            raise error.at(path, call.id)
        except BaseException as error:
            failed = error
            call.is_recorded = True
            raise
        finally:
            timer.attempts.pop(progress, None)
            self._meter.measure(call, progress, began, self._clock.monotonic(), failed)

    def _too_slow(self, path: str, progress: Progress, *, is_money: bool) -> errors.MioEsimError:
        if not progress.sent:
            return errors.ConnectError(
                f"no connection through the proxy within {self._connect:g} s; check the proxy"
            )
        timer = progress.timer
        if progress.was_silent:
            return errors.AttemptTimeout(
                f"{path}: the host sent nothing for {timer.silence:g} s; "
                f"try again later, or {worded('raise Timeouts(read=...)')}"
            )
        advice = "raise Timeouts(money=...)" if is_money else "raise Timeouts(attempt=...)"
        return errors.AttemptTimeout(
            f"{path} was not answered within {timer.whole:g} s; "
            f"try again later, or {worded(advice)}"
        )

    def _refused(
        self,
        endpoint: Endpoint,
        code: int | str,
        envelope: Envelope,
        request: Request,
        token: StoredToken | None,
    ) -> errors.MioEsimError:
        """Make the error for a reply whose code is not success."""
        if envelope.message is None:
            unreadable = errors.ProtocolError(
                f"{endpoint.path} answered code {code} with a message that is nested deeper than "
                f"{MAX_DEPTH} levels"
            )
            unreadable.data = excerpts_of(envelope.body) if request.is_purchase else None
            return unreadable
        message = self._masked(envelope.message, request, token)
        if endpoint.is_throttle(code, message):
            return errors.RateLimited(
                f"{endpoint.path} answered code {code} ({message}), which reads like a rate "
                "limit; call less often, or lower max_in_flight"
            )
        return endpoint.refusal(code, message, cut(envelope.data))

    def _refused_status(self, endpoint: Endpoint, reply: RawReply) -> errors.MioEsimError:
        status, wait = reply.status, parse_retry_after(reply.retry_after, self._clock.time())
        asked = "" if wait is None else f"; the host asks to wait {wait:g} s"
        if status == 429:
            return errors.RateLimited(
                f"{endpoint.path}: the host limits the rate (HTTP 429){asked}; "
                "call less often, or lower max_in_flight",
                wait,
            )
        if status >= 500:
            advice = "the host has a problem, so try again later"
        elif status < 400:
            advice = "redirects are not followed; check base_url"
        else:
            advice = endpoint.refused_hint or "check base_url"
        return errors.HttpStatusError(
            f"{endpoint.path}: HTTP status {status}{asked}; {advice}", status, wait
        )

    def _masked(self, text: str, request: Request, token: StoredToken | None) -> str:
        """Mask the request's secrets in a text of the vendor's, and shorten a long one."""
        credentials = self._credentials
        sent = (credentials.password, credentials.secret_key, request.sign)
        return masked_start(text, sent if token is None else (*sent, token.token))


async def _read(call: Call, request: Request, reply: RawReply) -> Envelope:
    """Parse the body of a reply.

    Raises:
        ProtocolError: If it can't be parsed. If it answers a purchase, ``data`` has the parts of
            it that may contain the order number.
    """
    shared = shared_slice()
    if shared.is_used_up() and not request.is_purchase:
        # Many replies may come at once. A purchase doesn't wait: its outcome is recorded first.
        await shared.wait_for_next()
    size, exact = len(reply.body), call.endpoint.exact
    try:
        if size <= SMALL_BODY:
            return parse_envelope(reply.body, exact=exact)
        most = call.endpoint.max_values(call.items, size)
        return await in_slices(parse_in_steps(reply.body, exact=exact, max_values=most))
    except errors.ProtocolError as error:
        if request.is_purchase:
            # The order may have been placed, so keep what may tell its number.
            error.data = excerpts_of(reply.body)
        raise
