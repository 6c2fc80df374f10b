"""The endpoints: path, documented method, safety, and the meaning of reply codes."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Literal

from attrs import field, frozen

from mioesim_async import errors
from mioesim_async.wire.dialect import setting
from mioesim_async.wording import worded

__all__ = [
    "ADD_ESIM_ORDER",
    "ADD_ESIM_ORDER_BY_API_CODE",
    "GET_DP_SKU_SUPPORT_PACKAGE_INFO",
    "GET_DP_SUPPORT_SKU_INFO",
    "GET_ESIM_DETAIL",
    "GET_HISTORY_DETAIL",
    "GET_ICCID_SUPPORT_PACKAGE_INFO",
    "GET_ICCID_SUPPORT_SKU",
    "GET_ORDER_INFO",
    "GET_PACKAGES",
    "GET_PHYSICAL_SIM_DP_INFO",
    "GET_SKUS",
    "GET_SKU_BY_GROUP",
    "HANDLER_ESIM_PDF_EMAIL",
    "HANDLER_ESIM_PDF_LINK",
    "LOGIN",
    "QUERY_ESIM_ORDER",
    "QUERY_ICCID_INFORMATION",
    "QUERY_ORDER",
    "REFUND_ORDER",
    "RENEW_CARD",
    "RENEW_CARD_BY_API_CODE",
    "VERIFY_RESOURCE",
    "Endpoint",
    "Safety",
    "unlisted_endpoint",
]

PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")

MAX_ICCIDS_PER_QUERY = 100
"""ICCIDs in one ``queryIccidInformation`` call (vendor-documented)."""


class Safety(enum.Enum):
    """Whether a call may be sent again after a failure.

    It depends on the endpoint, not on the HTTP method. ``READ`` and ``AUTH`` (login) calls are
    sent again. ``WRITE`` (sends mail) and ``MONEY`` (orders, renewals, refunds) calls are never
    sent again once a byte may have left.
    """

    READ = "read"
    AUTH = "auth"
    WRITE = "write"
    MONEY = "money"


CODES: Mapping[int, type[errors.ApiError]] = {
    -1: errors.TokenExpired,
    -2: errors.MissingParameter,
    -3: errors.NotFound,
    -8: errors.QueryFailed,
    -10: errors.MissingParameter,
    -30: errors.SignatureError,
    3: errors.NotFound,
    4: errors.OrderStateError,
    22: errors.NotYourOrder,
    99: errors.PdfFailed,
}
"""The errors for codes of all endpoints but login (vendor-documented)."""

LOGIN_CODES: Mapping[int, type[errors.ApiError]] = {
    -1: errors.AuthenticationError,
    -2: errors.AuthenticationError,
    -3: errors.PermissionDenied,
    -30: errors.SignatureError,
}

HINTS: Mapping[int, str] = {
    -1: "the token expired, or a later login on the account evicted it",
    -2: "a required parameter is missing; if it was sent, its name may differ here "
    "(for card batches set {batch})",
    -3: "nothing found, or the operation failed; check the ICCID or order number",
    -8: "the query failed; check its filters",
    -10: "dpId is missing",
    3: "the data does not exist",
    4: "the order's status does not allow this; read the order first",
    22: "the order belongs to another account; check which account is used",
    99: "the PDF could not be made or sent; try again later",
}

LOGIN_HINTS: Mapping[int, str] = {
    -1: "check the phone number and the password",
    -2: "the vendor saw no user name or password; check both, and try "
    "{login} with 'form', 'query' and 'json'",
    -3: "the account may not call the API; ask the vendor to enable it",
}

REFUSED_FOR_MONEY = frozenset({-1, -2, -10, -30, 3, 4, 22})
"""Codes of a MONEY call after which nothing was executed (assumed)."""

REFUSED_FOR_DATA = frozenset({-3, -8, 3})
"""Codes of a card batch in which one ICCID may be at fault (assumed)."""


BASE_VALUES = 20_000
"""Values that any reply may have."""

VALUES_PER_ITEM = 200
"""More values for each thing that was asked for; card rows with up to 40 fields were observed."""

BYTES_PER_VALUE = 8
"""Least average size of the values in a large list. A list may have one more value for each."""

UNLISTED_BYTES_PER_VALUE = 2.5
"""The same for endpoints that aren't listed here, whose values may be as short as ``{"x":1}``."""

CARD_KIB = 1024
"""KiB in a reply about one card, which may contain a picture."""

LIST_KIB = 8 * 1024
"""KiB in a list of the catalogue."""

ORDER_KIB = 8 * 1024
"""KiB in an order of a thousand cards."""

PAGE_KIB = 32 * 1024
"""KiB in a page of such orders."""

THROTTLE = re.compile(
    r"too (many|fast|frequent|often)|frequen|rate.?limit|limit.{0,12}exceed|throttl|busy"
    r"|频繁|限流|繁忙",
    re.IGNORECASE,
)
"""Words of a message that asks the client to slow down (assumed; none was observed)."""


@frozen
class Endpoint:
    """One endpoint.

    Attributes:
        path: Path below the base URL.
        method: The documented HTTP method; a read may be sent by the other one.
        safety: Whether a call may be sent again.
        success: The code that means success (1 for login, else 0; vendor-documented).
        codes: The error class for each other code; codes that are missing give ``ApiError``.
        hints: What the user should do, by code.
        refused_hint: A hint that is added to every refusal, for any code.
        exact: Whether numbers are prices and must be parsed as ``Decimal``, from their text.
        max_kib: KiB that a reply may have.
        kib_per_item: More KiB for each thing that was asked for, such as an ICCID.
        bytes_per_value: Least average size of the values in a large reply.
        is_read_by_get: Whether this is a read that is documented as GET. Only these reads
            are sent by ``Dialect.read_method``.
    """

    path: str
    method: Literal["GET", "POST"] = "GET"
    safety: Safety = Safety.READ
    success: int = 0
    codes: Mapping[int, type[errors.ApiError]] = field(default=CODES, repr=False)
    hints: Mapping[int, str] = field(default=HINTS, repr=False)
    refused_hint: str = field(default="", repr=False)
    exact: bool = False
    max_kib: int = 256
    kib_per_item: int = 0
    bytes_per_value: float = BYTES_PER_VALUE
    is_read_by_get: bool = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Set ``is_read_by_get`` once, since every call reads it."""
        is_read = self.safety is Safety.READ and self.method == "GET"
        object.__setattr__(self, "is_read_by_get", is_read)

    def max_values(self, items: int, size: int) -> int:
        """Return how many values a reply may have; a list or an object counts as three.

        Args:
            items: How many things were asked for.
            size: The bytes of the reply.
        """
        is_list = not self.kib_per_item and self.max_kib >= LIST_KIB
        more = size / self.bytes_per_value if is_list else VALUES_PER_ITEM * items
        return BASE_VALUES + int(more)

    def hint_for(self, code: int | str | None) -> str:
        """Return what the user should do about a code; None for a refusal by HTTP status."""
        hint = self.hints.get(code, "") if isinstance(code, int) else ""
        named = worded(hint, batch=setting("batch_parameter"), login=setting("login_encoding"))
        return "; ".join(part for part in (named, self.refused_hint) if part)

    def is_throttle(self, code: int | str, message: str) -> bool:
        """Tell whether a read with an unlisted code was refused for a rate limit (assumed)."""
        unlisted = self.safety is Safety.READ and code not in self.codes
        return unlisted and bool(THROTTLE.search(message))

    def refusal(self, code: int | str, message: str, data: object) -> errors.ApiError:
        """Return the error for a code that doesn't mean success."""
        cls = self.codes.get(code, errors.ApiError) if isinstance(code, int) else errors.ApiError
        return cls(self.path, code, message, data, self.hint_for(code))


def _purchase(path: str) -> Endpoint:
    return Endpoint(path, "POST", Safety.MONEY, exact=True, kib_per_item=8)


LOGIN = Endpoint(
    "/api_order/login", "POST", Safety.AUTH, success=1, codes=LOGIN_CODES, hints=LOGIN_HINTS
)
QUERY_ICCID_INFORMATION = Endpoint("/api_esim/queryIccidInformation", kib_per_item=8)
GET_ESIM_DETAIL = Endpoint(
    "/api_esim/getESIMDetail",
    max_kib=CARD_KIB,
    refused_hint="this endpoint also needs your IP address on the vendor's whitelist; "
    "ask the vendor to add it",
)
GET_HISTORY_DETAIL = Endpoint("/api_esim/getHistoryDetail", exact=True, max_kib=LIST_KIB)
GET_ICCID_SUPPORT_SKU = Endpoint("/api_esim/getIccidSupportSku", exact=True, max_kib=LIST_KIB)
GET_ICCID_SUPPORT_PACKAGE_INFO = Endpoint(
    "/api_esim/getIccidSupportPackageInfo", exact=True, max_kib=LIST_KIB
)

GET_SKUS = Endpoint("/api_esim/getSkus", exact=True, max_kib=LIST_KIB)
GET_SKU_BY_GROUP = Endpoint("/api_esim/getSkuByGroup", exact=True, max_kib=LIST_KIB)
GET_PACKAGES = Endpoint("/api_esim/getPackages", exact=True, max_kib=LIST_KIB)
GET_PHYSICAL_SIM_DP_INFO = Endpoint("/api_esim/getPhysicalSIMDpInfo", exact=True, max_kib=LIST_KIB)
GET_DP_SUPPORT_SKU_INFO = Endpoint("/api_esim/getDpSupportSkuInfo", exact=True, max_kib=LIST_KIB)
GET_DP_SKU_SUPPORT_PACKAGE_INFO = Endpoint(
    "/api_esim/getDpSkuSupportPackageInfo", exact=True, max_kib=LIST_KIB
)

ADD_ESIM_ORDER = _purchase("/api_esim/addEsimOrder")
ADD_ESIM_ORDER_BY_API_CODE = _purchase("/api_esim/addEsimOrderByApiCode")
RENEW_CARD = _purchase("/api_esim/renewCard")
RENEW_CARD_BY_API_CODE = _purchase("/api_esim/renewCardByApiCode")
REFUND_ORDER = _purchase("/api_esim/refundOrder")
# One path, two endpoints: a call for links may be repeated, one that sends mail may not.
HANDLER_ESIM_PDF_LINK = Endpoint("/api_esim/handlerEsimPdf", "POST", exact=True, max_kib=ORDER_KIB)
HANDLER_ESIM_PDF_EMAIL = Endpoint("/api_esim/handlerEsimPdf", "POST", Safety.WRITE, exact=True)
GET_ORDER_INFO = Endpoint("/api_esim/getOrderInfo", "POST", exact=True, max_kib=ORDER_KIB)
VERIFY_RESOURCE = Endpoint("/api_esim/verifyResource", "POST", exact=True)
QUERY_ORDER = Endpoint("/api_esim/queryOrder", "POST", exact=True, max_kib=PAGE_KIB)
QUERY_ESIM_ORDER = Endpoint("/api_esim/queryEsimOrder", "POST", exact=True, max_kib=PAGE_KIB)


def unlisted_endpoint(path: str, safety: Safety) -> Endpoint:
    """Return an endpoint that is not listed here.

    Raises:
        InvalidRequest: If the path is not a plain path below the base URL.
    """
    if not PLAIN_PATH.fullmatch(path):
        raise errors.InvalidRequest(
            f"path {path!r} must start with '/' and hold no query; pass parameters in params"
        )
    if safety is Safety.AUTH:
        raise errors.InvalidRequest("only the client itself logs in; use client.login()")
    method: Literal["GET", "POST"] = "GET" if safety is Safety.READ else "POST"
    return Endpoint(
        path,
        method,
        safety,
        exact=True,
        max_kib=PAGE_KIB,
        bytes_per_value=UNLISTED_BYTES_PER_VALUE,
    )
