"""The endpoints as frozen rows: path, documented method, safety, what codes mean there."""

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
"""Most ICCIDs in one ``queryIccidInformation`` call (vendor-documented)."""


class Safety(enum.Enum):
    """What may happen when a call is sent twice; it belongs to the endpoint, not the verb.

    ``READ`` and ``AUTH`` (login) are repeated after a failure. ``WRITE`` (sends mail) and
    ``MONEY`` (orders, renewals, refunds) are never sent again once a byte may have left.
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
"""What codes mean outside login (vendor-documented)."""

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
"""On a MONEY call: nothing was executed (our reading, not the vendor's word)."""

REFUSED_FOR_DATA = frozenset({-3, -8, 3})
"""On a card batch: one of the ICCIDs may be at fault (assumed)."""


FREE_VALUES = 20_000
VALUES_PER_ITEM = 200
BYTES_PER_VALUE = 8
"""Values that any reply may have, and more for each thing that was asked for, or for its size.

Card rows were seen with up to 40 fields. A value of a large list has 8 bytes on average, at least;
of an endpoint that isn't listed nobody knows, and ``{"x":1}`` has not many more than two.
"""
ANY_BYTES_PER_VALUE = 2.5

CARD_KIB = 1024
LIST_KIB = 8 * 1024
ORDER_KIB = 8 * 1024
PAGE_KIB = 32 * 1024
"""KiB of a card that may have a picture in it, of a list of the catalogue, of an order of a
thousand cards, of a page of such orders."""

THROTTLE = re.compile(
    r"too (many|fast|frequent|often)|frequen|rate.?limit|limit.{0,12}exceed|throttl|busy"
    r"|频繁|限流|繁忙",
    re.IGNORECASE,
)
"""Words of a reply that asks to go slower (assumed; no such reply was seen)."""


@frozen
class Endpoint:
    """One endpoint.

    Attributes:
        path: Path below the base URL.
        method: The documented method; reads may be sent by the other one.
        safety: What may be repeated.
        success: The code that means success (0, except login: 1; vendor-documented).
        codes: Which error a refusing code becomes; any other becomes ``ApiError``.
        hints: What to do next, by code.
        refused_hint: Added to every refusal here, whatever its code.
        exact: Numbers are prices: parse them as ``Decimal``, from the text.
        max_kib: Most KiB of a reply.
        kib_per_item: So many KiB more for each thing that was asked for, such as an ICCID.
        bytes_per_value: So many bytes a value of a large reply has, at least, on average.
        is_read_by_get: A read that is documented as GET. What is documented as POST tells
            nothing about those.
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
        """Tell once what each call asks."""
        is_read = self.safety is Safety.READ and self.method == "GET"
        object.__setattr__(self, "is_read_by_get", is_read)

    def max_bytes(self, items: int) -> int:
        """Return how many bytes a reply may have.

        Args:
            items: How many things were asked for.
        """
        return 1024 * (self.max_kib + items * self.kib_per_item)

    def max_values(self, items: int, size: int) -> int:
        """Return how many values a reply may have, where a list or an object counts as three.

        Args:
            items: How many things were asked for.
            size: Its bytes.
        """
        is_list = not self.kib_per_item and self.max_kib >= LIST_KIB
        more = size / self.bytes_per_value if is_list else VALUES_PER_ITEM * items
        return FREE_VALUES + int(more)

    def hint_for(self, code: int | str | None) -> str:
        """Say what to do about a refusal here; ``None`` for one by HTTP status."""
        hint = self.hints.get(code, "") if isinstance(code, int) else ""
        named = worded(hint, batch=setting("batch_parameter"), login=setting("login_encoding"))
        return "; ".join(part for part in (named, self.refused_hint) if part)

    def is_throttle(self, code: int | str, message: str) -> bool:
        """Tell whether an unlisted code of a read reads like a rate limit (assumed)."""
        unlisted = self.safety is Safety.READ and code not in self.codes
        return unlisted and bool(THROTTLE.search(message))

    def refusal(self, code: int | str, message: str, data: object) -> errors.ApiError:
        """Make the error for a code that is not success."""
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
# One path, two rows: asking for links is harmless, sending mail is not.
HANDLER_ESIM_PDF_LINK = Endpoint("/api_esim/handlerEsimPdf", "POST", exact=True, max_kib=ORDER_KIB)
HANDLER_ESIM_PDF_EMAIL = Endpoint("/api_esim/handlerEsimPdf", "POST", Safety.WRITE, exact=True)
GET_ORDER_INFO = Endpoint("/api_esim/getOrderInfo", "POST", exact=True, max_kib=ORDER_KIB)
VERIFY_RESOURCE = Endpoint("/api_esim/verifyResource", "POST", exact=True)
QUERY_ORDER = Endpoint("/api_esim/queryOrder", "POST", exact=True, max_kib=PAGE_KIB)
QUERY_ESIM_ORDER = Endpoint("/api_esim/queryEsimOrder", "POST", exact=True, max_kib=PAGE_KIB)


def unlisted_endpoint(path: str, safety: Safety) -> Endpoint:
    """Make the row of an endpoint that this SDK does not know.

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
        bytes_per_value=ANY_BYTES_PER_VALUE,
    )
