"""What ``to_dict`` leaves out: activation codes, and all that leads to one."""

from __future__ import annotations

import base64
import json
from typing import Any, get_type_hints
from urllib.parse import quote

import attrs
import pytest
from hypothesis import example, given, settings, strategies as st

import mioesim_async
from mioesim_async import (
    ActivationCode,
    CardDetail,
    CardOutcome,
    CardReport,
    CardStatus,
    InstallLinks,
    Order,
    OrderCard,
    customer_sheets,
    errors,
    to_dict,
)
from mioesim_async.models.hiding import is_code_field, leads_to_code
from mioesim_async.models.plain import is_hidden

ICCID = "8985203104000042611"
MARK = "MADE-UP-MATCHING-ID"
CODE = ActivationCode("smdp.example.test", MARK)
PDF = f"http://127.0.0.1//pdf/{MARK}"

HARMLESS = {
    "apn": "internet", "validity": 30, "activateBefore": "2024-12-24", "countryCode": "JP",
    "apiCode": "392-0-7-1-G", "activationStatus": "Released", "mobileNumber": "+81 90 1234",
    "shippingAddress": "1 Main St. / Floor 3", "note": "1$/day, 3.5 GB; best for A/B tests",
    "pdfLanguage": "en", "alpaca": "wool", "time": "12:30:00", "host": "rsp.example.test",
    "supportCountry": ["Japan", "South Korea"], "is5G": True, "dpId": 7, "nothing": None,
    "currency_code": "USD", "plans": [{"name": "Asia: 7 days", "statusCodes": [0, 2]}],
}  # fmt: skip


def test_a_card_is_written_without_its_code_and_with_it_when_asked() -> None:
    card = CardDetail(ICCID, extra={"apn": "internet", "code": str(CODE)}, activation=CODE)
    told = to_dict(card)
    assert "activation" not in told
    assert (told["iccid"], told["extra"]) == (ICCID, {"apn": "internet"})
    whole = to_dict(card, activation=True)
    assert whole["activation"] == whole["extra"]["code"] == str(CODE)


def test_an_order_is_written_without_codes_and_links_to_pdfs() -> None:
    cards = [OrderCard(ICCID, CODE, PDF, extra={"pdf": {"file": MARK}})]
    order = Order("EP1", cards=cards, extra={"cards": [{"activation_code": MARK, "apn": "x"}]})
    told = to_dict(order)
    assert told["cards"] == [{"iccid": ICCID, "used_mb": None, "extra": {}}]
    assert told["extra"] == {"cards": [{"apn": "x"}]}
    assert json.dumps(to_dict(order, activation=True)).count(MARK) == 4


def test_what_is_made_for_the_customer_is_left_out_everywhere() -> None:
    (sheet,) = customer_sheets(OrderCard(ICCID, CODE, PDF))
    links = CODE.install_links()
    assert not {"activation", "manual", "links", "pdf_url"} & to_dict(sheet).keys()
    assert to_dict(sheet)["iccid"] == ICCID
    assert (to_dict(CODE), to_dict(links)) == (None, None)
    assert to_dict({"a": CODE, "b": [links, 1], "c": (2, CODE)}) == {"b": [1], "c": [2]}
    assert MARK in json.dumps(to_dict([sheet, {"a": links}, CODE], activation=True))


def test_a_code_that_stands_elsewhere_is_masked() -> None:
    told = to_dict(
        [
            CardOutcome(f" {CODE}", error=errors.InvalidRequest(f"not an ICCID: {CODE}")),
            CardReport(failed={str(CODE): errors.InvalidRequest("no")}),
            {"mine": f"scan {CODE} now", "url": "https://shop.example/orders/1"},
        ]
    )
    assert MARK not in json.dumps(told)
    assert told[2] == {"mine": "scan *** now", "url": "https://shop.example/orders/1"}


def test_harmless_data_stays_as_it_is() -> None:
    assert to_dict(CardStatus(ICCID, extra=HARMLESS))["extra"] == HARMLESS


@pytest.mark.parametrize(
    "name",
    [
        "code", "Code", "esimCode", "qrcode", "qrCode", "QR_CODE", "qrCodeImg", "qr", "lpa",
        "LPAString", "lpa_string", "activationCode", "activation_code", "activation", "ac",
        "sm_dp_address", "smdpAddress", "SM-DP+ address", "smdp", "matchingId", "matching_id",
        "confirmationCode", "confirmCode", "cc_code", "pin", "PIN1", "puk", "puk2", "pinCode",
        "pdfUrl", "pdf", "pdf_link", "shortUrl", "download_link", "installUrl", "href", "codes",
        "codeText", "activationString", "激活码", "barcode", "pdfPassword", "uri",
    ],
)  # fmt: skip
@pytest.mark.parametrize("value", [MARK, 1234, [MARK], {"v": MARK}])
def test_a_code_field_goes_whatever_it_holds(name: str, value: Any) -> None:
    extra = {"rows": [{"a": {name: value, "kept": 1}}]}
    assert to_dict(CardStatus(extra=extra))["extra"] == {"rows": [{"a": {"kept": 1}}]}


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_name_is_no_code_field(name: str) -> None:
    assert not is_code_field(name)


@pytest.mark.parametrize(
    "text",
    [
        str(CODE), str(CODE).lower(), str(CODE)[4:], f"scan {CODE}!", quote(str(CODE), safe=""),
        quote(quote(str(CODE), safe=""), safe=""), json.dumps({"x": str(CODE)}), "LPA:9-SECRET",
        "LPA&#58;1&#36;smdp.example&#36;X", PDF, PDF.upper(), quote(PDF, safe=""),
        f"see {PDF} soon", "https:/one.example/slash", "//cdn.example/x", "www.example.test",
        "example.test/pdf/1", "ftp://x.example", "intent://x", "data:image/png;base64,iVBORw0K",
        "http:\\/\\/escaped.example", "/upload/qr/1.png", "files/card.PDF", "mailto:a@b.example",
        base64.b64encode(str(CODE).encode()).decode(), base64.b64encode(PDF.encode()).decode(),
    ],
)  # fmt: skip
def test_a_text_that_leads_to_a_code_goes(text: str) -> None:
    assert leads_to_code(text)
    extra = {"a": text, "b": [text, {"c": text}], text: 1, "kept": 2}
    assert to_dict(CardStatus(extra=extra))["extra"] == {"b": [{}], "kept": 2}


CODES = st.builds(
    lambda prefix, host, path, tail: f"{prefix}1${host}${path}{MARK}{tail}",
    st.sampled_from(["LPA:", "lpa:", "LPA: ", ""]),
    st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
    st.text("ABC0123-", max_size=5),
    st.sampled_from(["", "$", "$1.3.6", "$$1"]),
)
URLS = st.builds(
    lambda scheme, host, path: f"{scheme}{host}/{path}{MARK}",
    st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "//", "app+x://"]),
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}(:[0-9]{1,4})?", fullmatch=True),
    st.text("abc/%?=&", max_size=5),
)
LEADING = (
    st.builds(
        lambda before, text, after, encode: before + encode(text) + after,
        st.sampled_from(["", " ", "scan ", "see: ", "<", '"']),
        CODES | URLS.filter(lambda url: not url.startswith("//")),
        st.sampled_from(["", " ", ">", "\n", '"']),
        st.sampled_from([str, lambda text: quote(text, safe="")]),
    )
    | URLS
)
FINE = st.none() | st.booleans() | st.integers() | st.text("abc 12", max_size=8)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.text("abxyz_", min_size=1, max_size=6) | LEADING
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(names, inner, max_size=4)
        ),
        max_leaves=12,
    )


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text("abxyz", min_size=1), nested(LEADING | FINE), min_size=1))
@example({"x": {"y": [f"1$a${MARK}"]}})
def test_no_code_and_no_url_survives_in_extra_however_deep(extra: dict[str, Any]) -> None:
    told = to_dict([CardStatus(ICCID, extra=extra), Order("EP1", cards=[OrderCard(extra=extra)])])
    assert MARK not in json.dumps(told)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text("abxyz", min_size=2), FINE))
def test_what_is_no_code_and_no_url_survives(extra: dict[str, Any]) -> None:
    assert to_dict(CardStatus(extra=extra))["extra"] == extra


def test_each_field_of_a_model_that_can_hold_a_code_is_marked() -> None:
    found = 0
    for name in mioesim_async.__all__:
        model = getattr(mioesim_async, name)
        if model is ActivationCode or not (isinstance(model, type) and attrs.has(model)):
            continue
        if not model.__module__.startswith(("mioesim_async.models", "mioesim_async.delivery")):
            continue
        hints = get_type_hints(model)
        for field in attrs.fields(model):
            kind = str(hints[field.name])
            leads = any(secret.__name__ in kind for secret in (ActivationCode, InstallLinks))
            if leads or "url" in field.name or "link" in field.name:
                assert is_hidden(field), f"{name}.{field.name}"
                found += 1
    assert found == 6
