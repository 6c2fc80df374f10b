"""Parameters to text to signature: both schemes, and nothing is sent that wasn't signed."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given, strategies as st

from mioesim_async.errors import InvalidRequest
from mioesim_async.wire.dialect import SCHEMES, SignatureScheme
from mioesim_async.wire.signing import canonical, percent_encode, sign, to_text, urlencode

KEY = "1234567890qwertyuiopasdfghjklzxc"
TOKEN = "29281-9EFE5E410BEF5300DD15E3830BD65601"
MADE_UP_SECRET = "hunter2-made-up"

PHONE = "13800000000"
ORDER = {
    "skuId": 45,
    "priceId": 441,
    "count": 1,
    "beginDate": "12/27/2025",
    "customerEmail": "user@example.com",
    "remark": "hello world",
    "backInfo": 1,
}
BY_API_CODE = {"apiCode": "826-0-?-500-M-D", "count": 1, "daypassDays": 3}

VECTORS: list[tuple[dict[str, Any], dict[str, str], str, str]] = [
    (
        {"phonenumber": PHONE, "password": "mypassword"},
        {},
        "9d3017ea1ffa8e5df1839a5bef2f4da4",
        "AB0603942871EFEC83C327DA614E644F",
    ),
    (
        {"phonenumber": PHONE, "password": "p@ss W0rd!"},
        {},
        "2dda66257dbce0946f60497047d1dcb5",
        "207EA1D279B250017A7177CB006E1727",
    ),
    (
        {},
        {"token": TOKEN},
        "72d335e8b2aa3561f5c7837a80cc8cf0",
        "6EAD091F44FC271AB9F1DA11A8F1419D",
    ),
    (
        {"skuId": 45},
        {"token": TOKEN},
        "b6bd42f3ccc776b8d71b287e02dc87ae",
        "55B970DD36436C756783330D0A6B6495",
    ),
    (
        ORDER,
        {"token": TOKEN},
        "980fadfe9408949193656507147d60af",
        "572274CEA7D2319C673957D766DB37B9",
    ),
    (
        BY_API_CODE,
        {"token": TOKEN},
        "17813f5b1bd5ff89d862d904922f999e",
        "38895CFD1A0051414E60B1451435C947",
    ),
]

# Characters that matter to a form, a query, a sort or an encoder, beside any others.
texts = st.text() | st.text(alphabet="=&+%,;/?#! ~-._aZ09é中😀\n", max_size=12)
names = texts.filter(bool)
# Larger ones are refused.
numbers = st.integers(-(10**30) + 1, 10**30 - 1)
pairs = st.dictionaries(names, texts.filter(bool), max_size=8)
schemes = st.sampled_from(SCHEMES)


def slow_encode(text: str) -> str:
    """Encode byte by byte, as RFC 3986 spells it out."""
    unreserved = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    return "".join(
        chr(byte) if byte in unreserved else f"%{byte:02X}" for byte in text.encode("utf-8")
    )


def slow_sign(params: Mapping[str, str], key: str, scheme: str) -> str:
    """Sign as wire.md section 2 tells it, one sentence a line."""
    strings = [key_ + "=" + value for key_, value in params.items() if key_ != "sign"]
    strings.sort(key=lambda string: [ord(char) for char in string])
    joined = "".join(strings) + key
    if scheme == "plain":
        return hashlib.md5(joined.encode("utf-8")).hexdigest().lower()
    return hashlib.md5(slow_encode(joined).encode("ascii")).hexdigest().upper()


@pytest.mark.parametrize(("params", "own", "plain", "encoded"), VECTORS)
def test_each_published_vector_is_met_in_both_schemes(
    params: dict[str, Any], own: dict[str, str], plain: str, encoded: str
) -> None:
    texts_ = canonical(params) | own

    assert sign(texts_, KEY, "plain") == plain
    assert sign(texts_, KEY, "encoded") == encoded


@pytest.mark.parametrize(("params", "own", "plain", "encoded"), VECTORS)
def test_the_order_of_the_parameters_does_not_change_the_signature(
    params: dict[str, Any], own: dict[str, str], plain: str, encoded: str
) -> None:
    backwards = dict(reversed((canonical(params) | own).items()))

    assert sign(backwards, KEY, "plain") == plain
    assert sign(backwards, KEY, "encoded") == encoded


@given(params=pairs, key=st.text(), scheme=schemes)
def test_an_independent_slow_signature_agrees(
    params: dict[str, str], key: str, scheme: SignatureScheme
) -> None:
    params.pop("sign", None)
    assert sign(params, key, scheme) == slow_sign(params, key, scheme)


@given(text=texts)
def test_percent_encoding_is_that_of_quote_with_nothing_kept(text: str) -> None:
    assert percent_encode(text) == quote(text, safe="") == slow_encode(text)


@given(numbers=st.lists(st.from_regex(r"[0-9]{16,20}", fullmatch=True), min_size=1))
def test_lists_of_iccids_are_encoded_like_any_other_text(numbers: list[str]) -> None:
    text = ",".join(numbers)
    assert percent_encode(text) == quote(text, safe="")


@given(params=pairs)
def test_what_is_sent_decodes_to_exactly_what_was_signed(params: dict[str, str]) -> None:
    sent = urlencode(params)
    decoded = parse_qsl(sent, keep_blank_values=True, strict_parsing=bool(sent))

    assert decoded == list(params.items())
    assert sent.isascii()


@given(
    params=st.dictionaries(
        names.filter(lambda name: name not in {"token", "sign"}),
        st.none() | st.booleans() | numbers | texts | st.lists(numbers, max_size=4),
        max_size=6,
    ),
    scheme=schemes,
)
def test_signing_the_decoded_request_gives_the_same_signature(
    params: dict[str, Any], scheme: SignatureScheme
) -> None:
    signed = canonical(params)
    at_the_vendor = dict(parse_qsl(urlencode(signed), keep_blank_values=True))

    assert sign(at_the_vendor, KEY, scheme) == sign(signed, KEY, scheme)


def test_the_sort_is_by_code_point_of_the_whole_key_value_string() -> None:
    # By name alone, or without regard to case, these would come in another order:
    # "-" < "1" < "=" < "A" < "a" < "é" < U+FF5E < U+1F600 (UTF-16 would swap the last two).
    params = {"a": "1", "a1": "0", "a-": "2", "A": "3", "é": "4", "\U0001f600": "5", "\uff5e": "6"}
    joined = "A=3a-=2a1=0a=1é=4\uff5e=6\U0001f600=5" + KEY

    assert sign(params, KEY, "plain") == hashlib.md5(joined.encode()).hexdigest()


def test_the_encoded_scheme_sorts_before_it_encodes() -> None:
    # "é" sorts after "z", and "%C3%A9" would sort before it.
    params = {"é": "1", "z": "2"}
    joined = quote("z=2é=1" + KEY, safe="")

    assert sign(params, KEY, "encoded") == hashlib.md5(joined.encode()).hexdigest().upper()


def test_equals_signs_in_values_and_key_are_encoded_too() -> None:
    joined = quote("a==b=c" + "k=ey", safe="")

    assert sign({"a": "=b=c"}, "k=ey", "encoded") == (
        hashlib.md5(joined.encode()).hexdigest().upper()
    )


def test_none_and_empty_text_are_neither_signed_nor_sent() -> None:
    assert canonical({"a": None, "b": "", "c": "x", "d": [], "e": ()}) == {"c": "x"}


def test_zero_and_false_are_sent() -> None:
    assert canonical({"a": 0, "b": False, "c": "0", "d": 0.0}) == {
        "a": "0",
        "b": "0",
        "c": "0",
        "d": "0.0",
    }


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (45, "45"),
        (-10, "-10"),
        (10**25, "1" + "0" * 25),
        (True, "1"),
        (False, "0"),
        (0.1, "0.1"),
        (1e22, "1" + "0" * 22),
        (1e-7, "0.0000001"),
        (Decimal("12.50"), "12.50"),
        (Decimal("1E+3"), "1000"),
        ([1, 2, 3], "1,2,3"),
        (["a", 1, True, Decimal("2.5")], "a,1,1,2.5"),
        (("898520", "898521"), "898520,898521"),
        (["one"], "one"),
        (" kept as it is ", " kept as it is "),
        (Colour.RED, "red"),
        (Level.HIGH, "3"),
    ],
)
def test_each_kind_of_value_has_one_plain_text(value: Any, text: str) -> None:
    result = to_text("name", value)

    assert result == text
    assert type(result) is str


BAD_VALUES = [
    float("nan"),
    float("inf"),
    float("-inf"),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    MADE_UP_SECRET.encode(),
    bytearray(MADE_UP_SECRET.encode()),
    {"nested": MADE_UP_SECRET},
    {MADE_UP_SECRET},
    pytest.param(object(), id="object"),
    ["a", ""],
    ["a", None],
    [""],
    [MADE_UP_SECRET, float("nan")],
    [MADE_UP_SECRET, {"nested": MADE_UP_SECRET}],
    [MADE_UP_SECRET, MADE_UP_SECRET.encode()],
]


@pytest.mark.parametrize("value", BAD_VALUES, ids=repr)
def test_a_value_without_a_text_form_is_refused_by_name_and_not_repeated(value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical({"fine": "x", "password": value})

    assert "'password'" in str(caught.value)
    assert MADE_UP_SECRET not in str(caught.value) + repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("name", ["token", "sign"])
def test_the_names_that_the_client_sets_itself_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{name}'") as caught:
        canonical({name: MADE_UP_SECRET})
    assert MADE_UP_SECRET not in str(caught.value)


def test_a_reserved_name_is_refused_even_when_its_value_would_be_dropped() -> None:
    with pytest.raises(InvalidRequest, match="token"):
        canonical({"token": None})


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="''"):
        canonical({"": "x"})


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("lone", ["\ud800", "x\udc00y"])
def test_a_lone_surrogate_is_refused_by_the_name_of_its_parameter(
    scheme: SignatureScheme, lone: str
) -> None:
    params = {"phonenumber": PHONE, "password": MADE_UP_SECRET + lone, "remark": "fine"}

    with pytest.raises(InvalidRequest) as caught:
        sign(params, KEY, scheme)

    told = str(caught.value) + repr(caught.value)
    assert "'password'" in told
    assert MADE_UP_SECRET not in told
    assert KEY not in told
    # A UnicodeEncodeError would hold the whole string, the secret key included.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_lone_surrogate_in_the_secret_key_is_said_to_be_there(scheme: SignatureScheme) -> None:
    with pytest.raises(InvalidRequest, match="secret key") as caught:
        sign({"a": "1"}, MADE_UP_SECRET + "\ud800", scheme)
    assert MADE_UP_SECRET not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_lone_surrogate_in_a_name_is_not_blamed_on_the_secret_key(
    scheme: SignatureScheme,
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sign({"a": "1", "rem\ud800ark": "2"}, KEY, scheme)
    assert "secret key" not in str(caught.value)
    assert "rem" in str(caught.value)


def test_the_hex_case_tells_the_schemes_apart() -> None:
    plain, encoded = sign({"a": "b"}, KEY, "plain"), sign({"a": "b"}, KEY, "encoded")

    assert plain == plain.lower()
    assert encoded == encoded.upper()
    assert plain != encoded.lower()


def test_more_parameters_than_any_request_has_are_one_clear_error() -> None:
    with pytest.raises(InvalidRequest, match="50,000 parameters; one request takes 1,000"):
        canonical({f"name{number}": 1 for number in range(50_000)})
