"""The answer to each call, without HTTP, for one account with its token, cards and orders."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from mioesim_async.config import Credentials
from mioesim_async.sandbox.cards import AccountCards
from mioesim_async.sandbox.catalogue import CATALOGUE_HANDLERS
from mioesim_async.sandbox.clock import SandboxClock
from mioesim_async.sandbox.faults import Fault
from mioesim_async.sandbox.oddities import write_oddly
from mioesim_async.sandbox.orders import ORDER_HANDLERS, AccountOrders
from mioesim_async.sandbox.params import Refusal
from mioesim_async.wire import endpoints
from mioesim_async.wire.dialect import SCHEMES, SignatureScheme
from mioesim_async.wire.endpoints import (
    GET_ESIM_DETAIL,
    GET_HISTORY_DETAIL,
    GET_ICCID_SUPPORT_PACKAGE_INFO,
    GET_ICCID_SUPPORT_SKU,
    LOGIN,
    MAX_ICCIDS_PER_QUERY,
    QUERY_ICCID_INFORMATION,
)
from mioesim_async.wire.signing import sign

__all__ = ["ACCOUNT", "HANDLED_PATHS", "POST_PATHS", "SHAPES", "Vendor"]

ACCOUNT = Credentials("13900000000", "sandbox password", "sandbox-secret-key-0123456789abcd")
"""A made-up account."""

TOKEN_LIFETIME = 2 * 60 * 60

Rows = list[dict[str, Any]]
Result = tuple[int | str, str, Any]

SHAPES: dict[str, Callable[[Rows], Any]] = {
    "list": lambda rows: rows,
    "map": lambda rows: {row["iccid"]: row for row in rows},
    "list in object": lambda rows: {"total": len(rows), "rows": rows},
    "map in object": lambda rows: {"cards": {row["iccid"]: row for row in rows}},
}
CARD_HANDLERS: dict[str, Callable[[AccountCards, str], Any]] = {
    GET_ESIM_DETAIL.path: AccountCards.detail,
    GET_HISTORY_DETAIL.path: AccountCards.history,
    GET_ICCID_SUPPORT_SKU.path: AccountCards.renewal_skus,
    GET_ICCID_SUPPORT_PACKAGE_INFO.path: AccountCards.renewal_packages,
}
HANDLED_PATHS = frozenset(
    {LOGIN.path, QUERY_ICCID_INFORMATION.path, *CARD_HANDLERS, *CATALOGUE_HANDLERS, *ORDER_HANDLERS}
)
POST_PATHS = frozenset(
    row.path
    for row in vars(endpoints).values()
    if isinstance(row, endpoints.Endpoint) and row.method == "POST"
)
"""Paths that are documented as POST; here they take both methods."""


class Vendor:
    """The account and its live token; answers each call.

    Attributes:
        refused: ICCIDs for which a whole call is refused, each with the code.
        logins: Logins that succeeded.
        cards: The cards.
        orders: The orders.
    """

    def __init__(
        self,
        cards: AccountCards,
        orders: AccountOrders,
        clock: SandboxClock,
        *,
        seed: int,
        signature: SignatureScheme | None,
        batch_parameter: str,
        shape: str,
        odd: bool,
    ) -> None:
        """Start without a live token."""
        self.cards = cards
        self.orders = orders
        self.refused: dict[str, int] = {}
        self.logins = 0
        self._clock = clock
        self._seed = seed
        self._schemes = (signature,) if signature else SCHEMES
        self._batch_parameter = batch_parameter
        self._shape = SHAPES[shape]
        self._odd = odd
        self._token: str | None = None
        self._token_ends = 0.0

    def evict(self) -> None:
        """End the live token."""
        self._token = None

    def answer(self, path: str, params: dict[str, str], fault: Fault | None) -> Result:
        """Return the code, message and data of one call; ``ABSENT`` for no data at all."""
        if fault is not None and fault.code is not None:
            return fault.code, fault.message.format_map(defaultdict(str, params)), None
        if path == LOGIN.path:
            return self._login(params)
        if not params.get("token") or not params.get("sign"):
            return -2, "token or sign is missing", None
        if not self._is_signed(params):
            return -30, "sign error", None
        if params["token"] != self._token or self._clock.time() >= self._token_ends:
            return -1, "token is invalid", None
        try:
            code, message, data = self._result(path, params, fault)
        except Refusal as refusal:
            return refusal.code, refusal.message, None
        return code, message, write_oddly(path, data) if self._odd and code == 0 else data

    def _result(self, path: str, params: dict[str, str], fault: Fault | None) -> Result:
        if path == QUERY_ICCID_INFORMATION.path:
            return self._query(params, fault)
        if path in CATALOGUE_HANDLERS:
            return 0, "success", CATALOGUE_HANDLERS[path](params)
        if path in ORDER_HANDLERS:
            return 0, "success", ORDER_HANDLERS[path](self.orders, params)
        iccid = params.get("iccid", "")
        if not iccid:
            return -2, "iccid is missing", None
        if iccid in self.refused:
            return self.refused[iccid], "query failed", None
        if iccid not in self.cards:
            return 3, "data does not exist", None
        return 0, "success", CARD_HANDLERS[path](self.cards, iccid)

    def _is_signed(self, params: dict[str, str]) -> bool:
        sent = {name: value for name, value in params.items() if name != "sign" and value}
        return any(
            sign(sent, ACCOUNT.secret_key, scheme) == params["sign"] for scheme in self._schemes
        )

    def _login(self, params: dict[str, str]) -> Result:
        if not params.get("phonenumber") or not params.get("password"):
            return -2, "user name or password is empty", None
        if not params.get("sign") or not self._is_signed(params):
            return -30, "sign error", None
        if (params["phonenumber"], params["password"]) != (ACCOUNT.phone_number, ACCOUNT.password):
            return -1, "wrong user name or password", None
        self.logins += 1
        digest = hashlib.blake2b(f"{self._seed}:{self.logins}".encode(), digest_size=16).hexdigest()
        self._token = f"{29281 + self.logins}-{digest.upper()}"
        self._token_ends = self._clock.time() + TOKEN_LIFETIME
        return LOGIN.success, "Successful", {"token": self._token}

    def _query(self, params: dict[str, str], fault: Fault | None) -> Result:
        asked = params.get(self._batch_parameter, "")
        if not asked:
            return -2, f"{self._batch_parameter} is missing", None
        iccids = asked.split(",")
        if len(iccids) > MAX_ICCIDS_PER_QUERY:
            return -8, f"at most {MAX_ICCIDS_PER_QUERY} ICCIDs", None
        for iccid in iccids:
            if iccid in self.refused:
                return self.refused[iccid], "query failed", None
        rows = [self.cards.status(iccid) for iccid in iccids if iccid in self.cards]
        if fault is not None:
            del rows[: fault.drop]
            rows += [self.cards.status(self.cards.foreign_iccid(n)) for n in range(fault.add)]
            if fault.strange:
                for row in rows:
                    row |= {"dpStatus": "FROZEN", "riskLevel": {"score": 7}}
        return 0, "success", self._shape(rows)
