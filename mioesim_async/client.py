"""The client of one account, and its groups of calls."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from attrs import evolve

from mioesim_async.api.cards import Cards
from mioesim_async.api.catalogue import Catalogue
from mioesim_async.api.orders.orders import Orders
from mioesim_async.api.partners import Partners
from mioesim_async.clock import Clock, SystemClock
from mioesim_async.closing import Closing
from mioesim_async.config import (
    DEFAULT_BASE_URL,
    ENVIRONMENT,
    Credentials,
    RetryPolicy,
    Timeouts,
    clean_base_url,
)
from mioesim_async.errors import ConfigurationError
from mioesim_async.journal.entry import Journal
from mioesim_async.journal.place import journal_at
from mioesim_async.profiles import journal_path, read_profile, token_path
from mioesim_async.tokens.store import MemoryTokenStore, TokenStore
from mioesim_async.transport.caller import Caller
from mioesim_async.transport.metrics import ClientStats, Health, Hook, check_hooks
from mioesim_async.transport.pool import SessionManager
from mioesim_async.transport.shared_rate import SharedRateLimit
from mioesim_async.wire.dialect import Dialect
from mioesim_async.wire.endpoints import Safety, unlisted_endpoint
from mioesim_async.wire.signing import Value

if TYPE_CHECKING:
    from mioesim_async.tokens.file import FileTokenStore
    from mioesim_async.tokens.redis import RedisTokenStore

__all__ = ["ClientOptions", "MioEsimClient", "with_shared_files"]

BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def _check_spend(limit: object) -> None:
    if limit is not None and not (isinstance(limit, Decimal) and limit.is_finite() and limit >= 0):
        raise ConfigurationError(f"max_spend_per_day must be a Decimal of 0 or more, not {limit!r}")


def _boolean(text: str) -> bool:
    if text.strip().lower() not in BOOLEANS:
        raise ConfigurationError("MIOESIM_ALLOW_INSECURE_HTTP must be 1 or 0")
    return BOOLEANS[text.strip().lower()]


SETTINGS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "base_url": ("MIOESIM_BASE_URL", str),
    "account": ("MIOESIM_ACCOUNT", str),
    "allow_insecure_http": ("MIOESIM_ALLOW_INSECURE_HTTP", _boolean),
    "order_journal": (
        "MIOESIM_ORDER_JOURNAL",
        lambda place: journal_at(place, "MIOESIM_ORDER_JOURNAL"),
    ),
}
"""Arguments of the constructor that ``from_env`` takes from a variable, and how it reads each."""


class ClientOptions(TypedDict, total=False):
    """The arguments of ``MioEsimClient``, for functions that pass them on.

    Such a function takes ``**options: Unpack[ClientOptions]``, so that type checkers know its
    arguments.
    """

    credentials: Credentials
    base_url: str
    account: str | None
    allow_insecure_http: bool
    dialect: Dialect | None
    session_manager: SessionManager | None
    proxy: str | None
    token_store: TokenStore | None
    order_journal: Journal | None
    max_spend_per_day: Decimal | None
    retry: RetryPolicy | None
    timeouts: Timeouts | None
    max_in_flight: int
    rate_limit: float | SharedRateLimit | None
    hooks: Sequence[Hook]
    on_late_order: Callable[[Any], object] | None
    clock: Clock | None


def with_shared_files(options: ClientOptions) -> ClientOptions:
    """Add the token file and the journal that programs of this user share.

    Each is added only if neither the options nor the environment name another.

    Raises:
        ConfigurationError: If one is needed and platformdirs is not installed.
    """
    options = options.copy()
    if "token_store" not in options and not os.environ.get("MIOESIM_TOKEN_STORE"):
        options["token_store"] = _file_store(token_path())
    if "order_journal" not in options and not os.environ.get("MIOESIM_ORDER_JOURNAL"):
        options["order_journal"] = journal_at(str(journal_path()), "the user's state directory")
    return options


class MioEsimClient(Closing):
    """One account of the MIOeSIM reseller API.

    Use it with ``async with``, or call ``aclose()``, in one event loop. It may be shared by
    any number of coroutines.

    Attributes:
        cards: Cards by ICCID.
        orders: Orders and renewals.
        catalogue: SKUs and packages.
        partners: Partners with physical SIMs.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        base_url: str = DEFAULT_BASE_URL,
        account: str | None = None,
        allow_insecure_http: bool = False,
        dialect: Dialect | None = None,
        session_manager: SessionManager | None = None,
        proxy: str | None = None,
        token_store: TokenStore | None = None,
        order_journal: Journal | None = None,
        max_spend_per_day: Decimal | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        max_in_flight: int = 32,
        rate_limit: float | SharedRateLimit | None = None,
        hooks: Sequence[Hook] = (),
        on_late_order: Callable[[Any], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Configure the client; nothing is opened or sent yet.

        Args:
            credentials: The account.
            base_url: URL of the vendor's host.
            account: Your label for the account. The token store and the journal identify an
                account by its phone number and this label. If None, the label is the host and
                port of ``base_url``. Set it if you reach one account by several URLs, such as
                through a reverse proxy of your own.
            allow_insecure_http: Allow a ``base_url`` with ``http://`` that is not on this
                machine. Password, token and activation codes are then sent unencrypted.
            dialect: Known settings of the host's dialect; the client finds out the others.
            session_manager: A connection pool to share. The client doesn't close it.
            proxy: URL of an HTTP proxy. Don't combine it with ``session_manager``.
            token_store: Where the account's one valid token is kept. All clients of an account
                must share one store, because each login invalidates the token before.
            order_journal: Records purchases, so that a reference is bought at most once, even
                by several processes.
            max_spend_per_day: What the account may spend in a day of GMT+8, in the vendor's
                currency, counted in the journal by all hosts that share it. What may have been
                bought counts; what was certainly refused doesn't; refunds aren't given back. The
                price is that of ``package=``, or else the catalogue's. An order that doesn't fit
                raises ``SpendLimitReached``; one without a known price is refused.
            retry: How failed reads are tried again.
            timeouts: Limits of attempts; they override those of the session manager.
            max_in_flight: Maximum of reads at once. Sweeps use at most three quarters of these
                slots, so that single reads always find a free one. Purchases have the same
                number of slots for themselves, and connections for themselves, so reads never
                delay a purchase. Exception: with ``SessionManager(session=...)`` reads and
                purchases share the connections of that session.
            rate_limit: Maximum of requests a second, evenly spaced; None for no limit.
                Purchases and logins go before reads. A ``SharedRateLimit`` limits all processes
                and hosts of the account together; purchases and logins then never wait.
            hooks: Plain functions that are called with an ``AttemptRecord`` after each attempt.
                An exception in a hook is logged and ignored.
            on_late_order: Called with the order or the error of a purchase that was sent, if
                its caller was cancelled or timed out before the answer. May be a coroutine
                function; ``aclose`` waits for it.
            clock: The source of time, for tests.

        Raises:
            ConfigurationError: If a setting can't work.
        """
        if not isinstance(credentials, Credentials):
            raise ConfigurationError("credentials takes a Credentials(...)")
        if type(max_in_flight) is not int or max_in_flight < 1:
            raise ConfigurationError(
                f"max_in_flight must be a whole number of 1 or more, not {max_in_flight!r}"
            )
        if not isinstance(rate_limit, SharedRateLimit | None) and not (
            type(rate_limit) in (int, float) and 0 < rate_limit < math.inf
        ):
            raise ConfigurationError(f"rate_limit must be more than 0, not {rate_limit!r}")
        if proxy is not None and session_manager is not None:
            raise ConfigurationError("set proxy= on the session manager: SessionManager(proxy=...)")
        if on_late_order is not None and not callable(on_late_order):
            raise ConfigurationError(
                f"on_late_order takes a function, not {type(on_late_order).__name__}"
            )
        _check_spend(max_spend_per_day)
        self._owns_manager = session_manager is None
        self._own_store: RedisTokenStore | None = None
        self._manager = session_manager or SessionManager(timeouts=timeouts, proxy=proxy)
        self._caller = Caller(
            credentials,
            base_url=clean_base_url(base_url, allow_insecure_http=allow_insecure_http),
            account=account,
            dialect=dialect or Dialect(),
            manager=self._manager,
            store=token_store or MemoryTokenStore(),
            retry=retry or RetryPolicy(),
            timeouts=timeouts or self._manager.timeouts,
            max_in_flight=max_in_flight,
            rate_limit=rate_limit,
            hooks=check_hooks(hooks),
            clock=clock or SystemClock(),
            on_late=on_late_order,
        )
        if order_journal is not None and not isinstance(order_journal, Journal):
            raise ConfigurationError(
                "order_journal takes an OrderJournal, a PostgresOrderJournal or another Journal"
            )
        self.cards = Cards(self._caller)
        self.catalogue = Catalogue(self._caller)
        self.partners = Partners(self._caller)
        self.orders = Orders(
            self._caller, order_journal, self.catalogue, self.partners, max_spend_per_day
        )

    @classmethod
    def from_env(cls, **overrides: Unpack[ClientOptions]) -> Self:
        """Make a client from environment variables.

        Reads ``MIOESIM_PHONE_NUMBER``, ``MIOESIM_PASSWORD``, ``MIOESIM_SECRET_KEY`` and, if
        set, ``MIOESIM_BASE_URL``, ``MIOESIM_ACCOUNT``, ``MIOESIM_ALLOW_INSECURE_HTTP`` (``1``
        allows it), ``MIOESIM_PROXY``, ``MIOESIM_TOKEN_STORE`` (the path of a file, or a
        ``redis://`` URL) and ``MIOESIM_ORDER_JOURNAL`` (the path of a file, or a
        ``postgresql://`` URL).

        Args:
            **overrides: Arguments of the constructor; they override the environment.

        Raises:
            ConfigurationError: If variables are missing or can't be used; it names them. Also if
                the constructor has no argument of a name.
        """
        _check_names("from_env", overrides)
        arguments: dict[str, Any] = {**overrides}
        if "credentials" not in arguments:
            missing = [name for name in ENVIRONMENT.values() if not os.environ.get(name)]
            if missing:
                raise ConfigurationError(f"set the environment variables {', '.join(missing)}")
            arguments["credentials"] = Credentials(
                **{field: os.environ[name] for field, name in ENVIRONMENT.items()}
            )
        for name, (variable, read) in SETTINGS.items():
            if (text := os.environ.get(variable)) and name not in arguments:
                arguments[name] = read(text)
        if (proxy := os.environ.get("MIOESIM_PROXY")) and "session_manager" not in arguments:
            arguments.setdefault("proxy", proxy)
        place = os.environ.get("MIOESIM_TOKEN_STORE")
        if not place or "token_store" in arguments:
            return cls(**arguments)
        if "://" not in place:
            if re.match(r"redis(s|\+\w+)?:", place):
                raise ConfigurationError(
                    "MIOESIM_TOKEN_STORE looks like a Redis URL; write redis://host:port/0"
                )
            return cls(**arguments, token_store=_file_store(place))
        store = _redis_store(place)
        client = cls(**arguments, token_store=store)
        client._own_store = store
        return client

    @classmethod
    def from_profile(cls, name: str, **overrides: Unpack[ClientOptions]) -> Self:
        """Make a client of an account in ``profiles.toml``, as ``mioesim --profile`` does.

        The file is the one that ``MIOESIM_PROFILES`` names, else the one in the user's config
        directory. Everything about the account comes from the profile, and nothing from the
        environment. Token and journal are shared with the command, so that neither ends the
        other's token or buys a reference that the other bought: the journal that the profile
        names, else ``MIOESIM_ORDER_JOURNAL``, else the user's; ``MIOESIM_TOKEN_STORE``, else the
        user's. ``MIOESIM_PROXY`` is used before the profile's proxy.

        This blocks: it reads the file, and runs a ``password_command``, which may take 30 seconds.

        Args:
            name: Name of the account in the file.
            **overrides: Arguments of the constructor; they override the profile.

        Raises:
            ConfigurationError: If there is no such profile, or it can't be used. Also if the
                constructor has no argument of a name.
        """
        _check_names("from_profile", overrides)
        profile = read_profile(name)
        options: ClientOptions = {
            "credentials": profile.credentials,
            "base_url": profile.base_url,
            "account": profile.account,
            "dialect": profile.dialect,
            "allow_insecure_http": profile.allow_insecure_http,
        }
        if profile.order_journal is not None and "order_journal" not in overrides:
            setting = f"order_journal of profile {name!r}"
            options["order_journal"] = journal_at(profile.order_journal, setting)
        if "session_manager" not in overrides and not os.environ.get("MIOESIM_PROXY"):
            options["proxy"] = profile.proxy
        return cls.from_env(**with_shared_files({**options, **overrides}))

    async def aclose(self, grace: float = 0.0, purchases: float | None = None) -> None:
        """Stop reads, wait for purchases that were sent, and close what the client opened.

        New calls are refused at once. Reads and sweeps that had not finished raise
        ``ClientClosed``.

        Args:
            grace: Seconds that reads get to finish.
            purchases: Seconds that purchases get to finish after that; None waits for the end of
                each: ``Timeouts.money`` at most for the purchase itself, and the time to read the
                order back and to record it. One that has not ended by then is left to its journal
                entry, and a log line names its reference; closing then takes a few seconds more.

        Raises:
            WrongLoop: Under trio, after use on asyncio.
        """
        self._manager.check_closable()
        has_waited = False
        try:
            await self._caller.aclose(grace, purchases)
            has_waited = True
        finally:
            await self.cards.aclose()
            # If closing is cancelled during a purchase, leave all open for its answer.
            is_over = has_waited or not self._caller.has_purchases
            await self.orders.aclose(is_over=is_over, in_a_hurry=purchases is not None)
            await self.catalogue.aclose()
            if self._owns_manager and is_over:
                await self._manager.aclose()
            if self._own_store is not None:
                await self._own_store.aclose()

    async def login(self) -> None:
        """Log in now, to find wrong credentials at start-up; other calls log in if needed.

        Raises:
            AuthenticationError: If phone number or password are wrong.
            SignatureError: If the secret key is wrong.
            PermissionDenied: If the account may not call the API.
            MioEsimError: If the login fails otherwise.
        """
        await self._caller.login()

    async def ping(self, *, deadline: float | None = None) -> None:
        """Ask the vendor for something small (``getSkus``), to find out whether calls succeed.

        Args:
            deadline: Seconds for the whole call.

        Raises:
            MioEsimError: If the call fails, as any call would.
        """
        await self.catalogue.skus(deadline=deadline)

    async def call(
        self,
        path: str,
        params: Mapping[str, Value] | None = None,
        *,
        safety: Safety = Safety.READ,
        deadline: float | None = None,
    ) -> Any:
        """Call an endpoint that this SDK doesn't know.

        Args:
            path: Path below the base URL, such as ``/api_esim/getSkus``.
            params: Its parameters; token and signature are added.
            safety: A ``READ`` is repeated after failures. ``WRITE`` and ``MONEY`` are sent by
                POST, and never again once a byte may have been sent.
            deadline: Seconds for the whole call.

        Returns:
            The parsed ``data`` of the reply; numbers with a fraction are ``Decimal``. A reply
            may have up to 32 MiB.

        Raises:
            InvalidRequest: If path or parameters can't be sent.
            OutcomeUnknown: If a ``MONEY`` or ``WRITE`` call may or may not have taken effect.
            MioEsimError: If the call fails otherwise.
        """
        envelope = await self._caller.call(
            unlisted_endpoint(path, safety), params or {}, deadline=deadline
        )
        return envelope.data

    @property
    def account(self) -> str:
        """The key of the account in the token store and in the journal.

        It is made of the phone number, and of ``account=`` or else host and port.
        """
        return self._caller.account

    @property
    def dialect(self) -> Dialect:
        """The host's dialect, as far as it is known."""
        return self._caller.dialect

    def health(self) -> Health:
        """Return how this client is doing: token, store, journal, last success, calls under way.

        It asks nobody and costs nothing, so a health check of your web application may call it
        each second; ``ping`` asks the vendor.
        """
        journal = self.orders.journal_uptime
        if journal is None:
            return self._caller.health()
        return evolve(
            self._caller.health(),
            journal_is_up=journal.is_up,
            journal_since=self._caller.moment(journal.since),
        )

    def stats(self) -> ClientStats:
        """Return counters of what this client has done so far."""
        return self._caller.stats()


def _check_names(call: str, given: Mapping[str, object]) -> None:
    known = ClientOptions.__annotations__
    if unknown := [name for name in given if name not in known]:
        raise ConfigurationError(
            f"{call} has no argument {', '.join(unknown)}; it takes {', '.join(known)}"
        )


def _file_store(path: str | os.PathLike[str]) -> FileTokenStore:
    # Importing filelock takes a while, and not everybody needs it.
    from mioesim_async.tokens.file import FileTokenStore  # noqa: PLC0415

    return FileTokenStore(path)


def _redis_store(url: str) -> RedisTokenStore:
    try:
        from mioesim_async.tokens.redis import RedisTokenStore  # noqa: PLC0415 - an extra

        return RedisTokenStore(url)
    except ModuleNotFoundError as error:
        reason = f"MIOESIM_TOKEN_STORE is a Redis URL, but {error}"
    except ValueError:
        # Its message repeats the URL, which may hold a password.
        reason = "MIOESIM_TOKEN_STORE must be a path or start with redis:// or rediss://"
    raise ConfigurationError(reason)
