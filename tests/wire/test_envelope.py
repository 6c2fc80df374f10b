"""Reply bodies to envelopes and their rows: every shape is read, every fault named for itself."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from mioesim_async.errors import ProtocolError
from mioesim_async.rows.cards import detail_row
from mioesim_async.rows.layout import rows_of
from mioesim_async.slices import at_once
from mioesim_async.wire.envelope import Envelope, parse_envelope, too_large

MADE_UP_SECRET = "LPA:1$smdp.example.test$MADE-UP-MATCHING-ID"
BIG = 89_852_000_000_000_000_017
"""An ICCID of twenty digits, sent as a number: too large for 64 bits."""

both = pytest.mark.parametrize("exact", [False, True])

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
payloads = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def fault_of(body: bytes, *, exact: bool = False) -> ProtocolError:
    """Return the error that a body is refused with, and check that it can be logged."""
    with pytest.raises(ProtocolError) as caught:
        parse_envelope(body, exact=exact)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    return error


@both
@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("0", 0),
        ('"0"', 0),
        ("1", 1),
        ('"1"', 1),
        ("-30", -30),
        ('"-30"', -30),
        ('" 0 "', 0),
        ('"+1"', 1),
        ("0.0", 0),
        ('"E100"', "E100"),
        ('"\u0660"', "\u0660"),
        ('"123456789012345678901234567890"', "123456789012345678901234567890"),
    ],
)
def test_a_code_is_the_same_number_whether_sent_as_number_or_text(
    raw: str, code: int | str, exact: bool
) -> None:
    envelope = parse_envelope(f'{{"code":{raw},"data":null}}'.encode(), exact=exact)

    assert envelope.code == code
    assert type(envelope.code) is type(code)


@both
@pytest.mark.parametrize("raw", ["null", "true", "false", '""', '" "', "[]", "{}", "0.5", "NaN"])
def test_a_code_that_is_no_code_is_a_fault_of_shape(raw: str, exact: bool) -> None:
    error = fault_of(f'{{"code":{raw},"data":1}}'.encode(), exact=exact)

    assert error.reason == "shape"
    assert "base_url" in str(error)


@both
def test_a_missing_code_is_a_fault_of_shape(exact: bool) -> None:
    assert fault_of(b'{"message":"success","data":[]}', exact=exact).reason == "shape"


@both
@pytest.mark.parametrize("body", [b"[]", b"[1]", b'"text"', b"1", b"null", b"true", b"NaN"])
def test_json_that_is_no_object_is_a_fault_of_shape(body: bytes, exact: bool) -> None:
    assert fault_of(body, exact=exact).reason == "shape"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('"message":"success"', "success"),
        ('"msg":"Successful"', "Successful"),
        ('"message":"one","msg":"two"', "one"),
        ('"message":null,"msg":"two"', "two"),
        ('"message":null', ""),
        ('"other":1', ""),
        ('"msg":404', "404"),
    ],
)
def test_the_message_may_be_spelled_message_or_msg(fields: str, message: str) -> None:
    assert parse_envelope(f'{{"code":0,{fields}}}'.encode()).message == message


@both
@pytest.mark.parametrize(
    ("raw", "data"),
    [
        ('{"token":"T"}', {"token": "T"}),
        ('[{"skuid":1}]', [{"skuid": 1}]),
        ('"EP20240124000013"', "EP20240124000013"),
        (f'{{"{BIG}":{{"usedMB":"1"}}}}', {str(BIG): {"usedMB": "1"}}),
        ("null", None),
        ('""', None),
        ("[]", []),
        ("{}", {}),
        ("0", 0),
        ("false", False),
        ('" "', " "),
    ],
)
def test_every_shape_of_data_comes_through(raw: str, data: Any, exact: bool) -> None:
    envelope = parse_envelope(f'{{"code":0,"data":{raw}}}'.encode(), exact=exact)

    assert envelope.data == data
    assert type(envelope.data) is type(data)
    assert envelope.exact_data() == data


@both
def test_missing_data_is_none(exact: bool) -> None:
    assert parse_envelope(b'{"code":0}', exact=exact).data is None


def test_missing_data_is_none_also_when_parsed_exactly() -> None:
    assert parse_envelope(b'{"code":0}').exact_data() is None


@both
@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_nan_in_a_reply_counts_as_no_value(word: str, exact: bool) -> None:
    envelope = parse_envelope(
        f'{{"code":0,"data":{{"price":{word},"days":7}}}}'.encode(), exact=exact
    )

    assert envelope.data == {"price": None, "days": 7}


@both
@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>404</body></html>",
        b"<!DOCTYPE html>\n<html>",
        b"\n\t <HTML>",
        b"\xef\xbb\xbf<html>",
        b"<?xml version='1.0'?><error/>",
    ],
)
def test_an_html_page_is_told_apart(body: bytes, exact: bool) -> None:
    error = fault_of(body, exact=exact)

    assert error.reason == "html"
    assert "base_url" in str(error)


@both
@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\r\n"])
def test_an_empty_body_is_told_apart(body: bytes, exact: bool) -> None:
    assert fault_of(body, exact=exact).reason == "empty"


@both
@pytest.mark.parametrize(
    "body",
    [
        b'{"code":0,}',
        b'{"code":0}}',
        b'{"code":0} trailing words',
        b"{'code':0}",
        b'{"code" 0, "data": [1, 2, 3]}',
        b"sign wrong",
        b'"text without end',
        b'{"code":0,"data":"\xff\xfe in the middle"}',
        b"\x00\x01\x02",
    ],
)
def test_a_body_that_is_wrong_before_its_end_is_malformed(body: bytes, exact: bool) -> None:
    assert fault_of(body, exact=exact).reason == "malformed"


@both
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"code":0,"data":[{"iccid":"898520',
        b'{"code":0,"data":[{"usedMB":12.5},',
        b'{"code":0,"data":tru',
        b'{"code":0,"data":-',
        b'{"code":0,"data":"ends in a backslash \\',
        '{"code":0,"data":"cut inside 中'.encode()[:-1],
        b'\xef\xbb\xbf{"code":0,"data":[',
        b'  \n{"code":0',
    ],
)
def test_a_reply_that_was_cut_off_is_told_apart(body: bytes, exact: bool) -> None:
    error = fault_of(body, exact=exact)

    assert error.reason == "truncated"
    assert f"{len(body):,} bytes" in str(error)


@pytest.mark.parametrize("cut", [b"1.", b"1E", b"1e+", b"1.5e-", b"-0.", b"1e"])
def test_a_cut_inside_a_number_is_a_cut(cut: bytes) -> None:
    assert fault_of(b'{"code":0,"data":{"price":' + cut).reason == "truncated"


@pytest.mark.parametrize("cut", [b"\\u", b"\\u0", b"\\u00", b"\\u003", b"\\u003d"])
def test_a_cut_inside_an_escape_is_a_cut(cut: bytes) -> None:
    assert fault_of(b'{"code":0,"data":"a' + cut).reason == "truncated"


@settings(deadline=None)
@given(payload=payloads, ascii_=st.booleans())
@example(payload=12.5, ascii_=True)
@example(payload="\u4e2d", ascii_=True)
@example(payload="\u4e2d", ascii_=False)
def test_every_proper_prefix_of_a_reply_is_truncated(payload: Any, ascii_: bool) -> None:
    text = json.dumps({"code": 0, "message": "ok", "data": payload}, ensure_ascii=ascii_)
    body = text.encode()

    for cut in range(1, len(body)):
        assert fault_of(body[:cut]).reason == "truncated", body[:cut]


@given(payload=payloads, cut=st.integers(1, 200))
def test_a_prefix_is_never_read_as_a_whole_reply(payload: Any, cut: int) -> None:
    body = json.dumps({"code": 0, "data": payload}).encode()

    assert fault_of(body[: min(cut, len(body) - 1)]).reason in ("truncated", "malformed")


@both
def test_a_byte_order_mark_is_no_fault(exact: bool) -> None:
    assert parse_envelope(b'\xef\xbb\xbf{"code":0,"data":[1]}', exact=exact).data == [1]


@both
def test_absurd_nesting_is_a_protocol_error_and_no_recursion_error(exact: bool) -> None:
    depth = 100_000
    body = b'{"code":0,"data":' + b"[" * depth + b"]" * depth + b"}"

    assert fault_of(body, exact=exact).reason == "malformed"


@pytest.mark.parametrize("depth", [100, 900, 1_000])
def test_what_the_fast_parser_could_nest_the_exact_one_reads_or_refuses(depth: int) -> None:
    envelope = parse_envelope(b'{"code":0,"data":' + b"[" * depth + b"]" * depth + b"}")
    try:
        data = envelope.exact_data()
    except ProtocolError:
        return
    assert isinstance(data, list)


def test_a_number_of_thousands_of_digits_is_a_protocol_error() -> None:
    for exact in (False, True):
        body = b'{"code":0,"data":' + b"9" * 5_000 + b"}"
        assert fault_of(body, exact=exact).reason == "malformed"


@both
@pytest.mark.parametrize("number", ["1e99999999999999999999", "1.5E-99999999999999999999"])
def test_an_absurd_exponent_never_raises_anything_but_a_protocol_error(
    number: str, exact: bool
) -> None:
    with contextlib.suppress(ProtocolError):
        parse_envelope(f'{{"code":0,"data":{number}}}'.encode(), exact=exact)


@both
def test_the_last_of_duplicate_keys_wins(exact: bool) -> None:
    envelope = parse_envelope(b'{"code":1,"code":0,"data":1,"data":{"a":1,"a":2}}', exact=exact)

    assert (envelope.code, envelope.data) == (0, {"a": 2})
    assert envelope.exact_data() == {"a": 2}


@pytest.mark.parametrize("price", ["0.1", "12.30", "1.10", "100000000000000000.01", "3e2"])
def test_exact_prices_are_decimals_made_from_their_text(price: str) -> None:
    data = parse_envelope(f'{{"code":0,"data":{price}}}'.encode(), exact=True).data

    assert type(data) is Decimal
    assert str(data) == str(Decimal(price))


@given(number=st.integers(10**19, 10**40))
def test_integers_of_twenty_digits_and_more_keep_all_of_them(number: int) -> None:
    body = f'{{"code":0,"data":[{{"iccid":{number}}}]}}'.encode()

    assert parse_envelope(body).exact_data() == [{"iccid": number}]
    assert parse_envelope(body, exact=True).data == [{"iccid": number}]


@given(payload=payloads)
def test_both_parsers_agree_on_what_json_can_say(payload: Any) -> None:
    body = json.dumps({"code": 0, "data": [payload]}).encode()

    assert parse_envelope(body, exact=True).data == parse_envelope(body).exact_data()
    plain = json.loads(json.dumps([payload]), parse_int=float)
    assert json.loads(json.dumps(parse_envelope(body).data), parse_int=float) == plain


@both
@pytest.mark.parametrize(
    "body",
    [
        f'{{"code":0,"data":"{MADE_UP_SECRET}'.encode(),
        f'{{"code":0,"data":"{MADE_UP_SECRET}",}}'.encode(),
        f"<html>{MADE_UP_SECRET}</html>".encode(),
        f'["{MADE_UP_SECRET}"]'.encode(),
        f'{{"data":"{MADE_UP_SECRET}"}}'.encode(),
        f'{{"code":0,"data":"{MADE_UP_SECRET}\xff"}}'.encode("latin-1"),
        MADE_UP_SECRET.encode(),
    ],
)
def test_no_error_and_nothing_behind_it_holds_the_body(body: bytes, exact: bool) -> None:
    error = fault_of(body, exact=exact)

    assert MADE_UP_SECRET not in repr(error) + str(error) + repr(vars(error))


def test_the_repr_of_an_envelope_shows_its_code_alone() -> None:
    body = f'{{"code":0,"message":"{MADE_UP_SECRET}","data":"{MADE_UP_SECRET}"}}'.encode()

    assert repr(parse_envelope(body)) == "Envelope(code=0)"
    assert isinstance(parse_envelope(body), Envelope)


def test_a_body_over_the_limit_says_what_to_do() -> None:
    error = too_large(1024 * 1024)

    assert error.reason == "too_large"
    assert "1,048,576" in str(error)
    assert "ask for fewer" in str(error)


ICCID, OTHER = "8985203104000042611", "8985203104000042629"


def only_row(data: Any, iccid: str) -> Any:
    body = json.dumps({"code": 0, "data": data}).encode()
    return at_once(detail_row(parse_envelope(body), iccid))


ONE, TWO = {"iccid": ICCID, "usedMB": "1"}, {"iccid": OTHER, "usedMB": "2"}


@pytest.mark.parametrize(
    "data", [ONE, [ONE], {ICCID: ONE}, {"list": [TWO, ONE]}, {"data": {"data": ONE}}, [TWO, ONE]]
)
def test_the_row_about_a_card_is_found_whatever_it_is_wrapped_in(data: Any) -> None:
    assert only_row(data, ICCID) == ONE


def test_a_row_without_iccid_is_taken_where_it_is_the_only_one() -> None:
    assert only_row({"usedMB": "1"}, ICCID) == {"usedMB": "1"}
    assert only_row([{"usedMB": "1"}], ICCID) == {"usedMB": "1"}
    assert only_row({ICCID: {"usedMB": "1"}}, ICCID) == {"usedMB": "1"}
    assert only_row({"usedMB": "1", "total": "6GB"}, ICCID) == {"usedMB": "1", "total": "6GB"}
    assert only_row({"total": 1, "rows": [{"usedMB": "1"}]}, ICCID) == {"usedMB": "1"}


@pytest.mark.parametrize("data", [None, [], {}, {ICCID: None}, {"total": 0, "rows": []}])
def test_no_row_is_none(data: Any) -> None:
    assert only_row(data, ICCID) is None


@pytest.mark.parametrize("data", [TWO, [TWO], {OTHER: {}}, [{"a": 1}, {"a": 2}], "text"])
def test_a_reply_about_something_else_is_a_protocol_error(data: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        only_row(data, ICCID)
    assert OTHER not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (None, []), ({}, []), ({"total": 0}, []), ([1], [1]), ({"rows": [1]}, [1]),
        ({"list": []}, []), ({"records": [1]}, [1]), ({"data": [1]}, [1]), ({"a": 1}, [{"a": 1}]),
    ],
)  # fmt: skip
def test_rows_come_from_a_list_an_object_or_a_list_in_one(data: Any, rows: list[Any]) -> None:
    assert rows_of(data) == rows


@pytest.mark.parametrize("data", ["text", 1, True])
def test_rows_of_anything_else_are_a_protocol_error(data: Any) -> None:
    with pytest.raises(ProtocolError, match="expected a list of rows"):
        rows_of(data)
