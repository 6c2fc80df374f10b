"""Activation codes: read, built, written, masked, drawn, linked."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings, strategies as st
from readers import read_image, read_svg, read_terminal

from mioesim_async import ActivationCode, InstallLinks, errors
from mioesim_async.models.cards import CardDetail
from mioesim_async.models.orders import OrderCard
from mioesim_async.rows.layout import read_row

MATCHING_ID = "MADE-UP-MATCHING-ID"
ADDRESS = "smdp.example.test"
LPA = f"LPA:1${ADDRESS}${MATCHING_ID}"

texts = st.text(alphabet="ABCxyz019.-", max_size=12)
fields = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="$"), max_size=60
)
codes = st.builds(
    ActivationCode,
    smdp_address=texts.filter(bool),
    matching_id=fields,
    oid=st.none() | st.from_regex(r"[0-9]{1,5}(\.[0-9]{1,5}){0,9}", fullmatch=True),
    confirmation_required=st.booleans(),
    more=st.lists(fields, max_size=3).map(tuple),
)


@pytest.mark.parametrize(
    ("text", "expected", "written"),
    [
        ("1$a.example$ID", ("a.example", "ID", None, False, ()), None),
        ("1$a.example$", ("a.example", "", None, False, ()), None),
        ("1$a.example$ID$1.3.6.1", ("a.example", "ID", "1.3.6.1", False, ()), None),
        ("1$a.example$ID$$1", ("a.example", "ID", None, True, ()), None),
        ("1$a.example$ID$1.3.6.1$1", ("a.example", "ID", "1.3.6.1", True, ()), None),
        ("1$a.example$$1.3.6.1", ("a.example", "", "1.3.6.1", False, ()), None),
        ("1$a.example$$$1", ("a.example", "", None, True, ()), None),
        ("1$a.example$ID$", ("a.example", "ID", None, False, ()), "1$a.example$ID"),
        ("1$a.example$ID$$", ("a.example", "ID", None, False, ()), "1$a.example$ID"),
        ("1$a.example$ID$1.3$1$later$x", ("a.example", "ID", "1.3", True, ("later", "x")), None),
        ("1$a.example$ID$$$later", ("a.example", "ID", None, False, ("later",)), None),
        ("1$a.example$ID$$1$$", ("a.example", "ID", None, True, ("", "")), None),
    ],
)
@pytest.mark.parametrize("prefix", ["", "LPA:", "lpa:", "Lpa: ", "  LPA:"])
def test_every_form_of_sgp22_is_read_and_written_back(
    text: str, expected: tuple[Any, ...], written: str | None, prefix: str
) -> None:
    code = ActivationCode.parse(f"{prefix}{text} \n")

    assert code == ActivationCode(*expected)
    assert str(code) == f"LPA:{written or text}"
    assert ActivationCode.parse(str(code)) == code


@given(codes)
def test_every_code_comes_back_from_its_text_its_pickle_and_its_copy(code: ActivationCode) -> None:
    assert ActivationCode.parse(str(code)) == code
    assert pickle.loads(pickle.dumps(code)) == copy.copy(code) == copy.deepcopy(code) == code


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "starts with"),
        ("LPA:", "starts with"),
        (MATCHING_ID, "starts with"),
        (f"2$a.example${MATCHING_ID}", "starts with"),
        (f"LPA1$a.example${MATCHING_ID}", "starts with"),
        (f"1${MATCHING_ID}", "address and a matching id"),
        (f"1$${MATCHING_ID}", "is a host name"),
        (f"1$a b${MATCHING_ID}", "is a host name"),
        (f"1$https://a.example${MATCHING_ID}", "is a host name"),
        (f"1$a@b.example${MATCHING_ID}", "is a host name"),
        (f"1$bücher.example${MATCHING_ID}", "is a host name"),
        (f"1$a.example${MATCHING_ID} LPA:1", "printable ASCII"),
        (f"1$a.example${MATCHING_ID}\0", "printable ASCII"),
        (f"1$a.example${MATCHING_ID}é", "printable ASCII"),
        (f"1$a.example${MATCHING_ID}${MATCHING_ID}", "the OID"),
        (f"1$a.example${MATCHING_ID}$1..3", "the OID"),
        (f"1$a.example${MATCHING_ID}$1.3$2", "confirmation flag"),
        (f"1$a.example${MATCHING_ID}$$1$a b", "a later field"),
    ],
)
def test_what_is_no_activation_code_is_refused_without_repeating_it(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="activation code") as caught:
        ActivationCode.parse(text)
    assert reason in str(caught.value)
    assert MATCHING_ID not in str(caught.value)
    assert "example" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_code_that_would_be_read_as_another_cannot_be_made_either() -> None:
    with pytest.raises(ValueError, match="matching id") as caught:
        ActivationCode(ADDRESS, f"{MATCHING_ID}$1.3")
    assert MATCHING_ID not in str(caught.value)
    code = ActivationCode(ADDRESS, MATCHING_ID)
    with pytest.raises(ValueError, match="host name"):
        code.smdp_address = ""


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"more": "yz"}, "later fields"),
        ({"more": ["yz"]}, "later fields"),
        ({"more": ("y", 5)}, "a later field"),
        ({"matching_id": ("x", "y")}, "the matching id"),
        ({"matching_id": 5}, "the matching id"),
        ({"confirmation_required": "1"}, "confirmation_required"),
        ({"confirmation_required": 1}, "confirmation_required"),
    ],
)
def test_a_part_of_another_type_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        ActivationCode(ADDRESS, **wrong)
    assert "yz" not in str(caught.value)


@pytest.mark.parametrize("around", ["\ufeff", "\u200b", " \u2060 \u200e\n", "\xa0\u3000"])
def test_what_is_invisible_around_a_code_is_dropped(around: str) -> None:
    assert str(ActivationCode.parse(f"{around}{LPA}{around}")) == LPA
    halves = {name: f"{around}{value}{around}" for name, value in HALVES.items()}
    for row in (halves, halves | {"code": f"{around}{LPA}{around}"}):
        card = read_row(row, CardDetail)
        assert (str(card.activation), card.extra) == (LPA, {})


def test_neither_code_nor_links_show_themselves_in_repr() -> None:
    code = ActivationCode.parse(LPA)
    for secret in (code, code.install_links(), [code], {"a": code.install_links()}):
        assert MATCHING_ID not in f"{secret!r}"
        assert ADDRESS not in f"{secret!r}"
        assert "***" in repr(secret)


HALVES = {"sm_dp_address": ADDRESS, "activationCode": MATCHING_ID}
WHOLE_IN_ADDRESS = {"sm_dp_address": LPA, "activationCode": MATCHING_ID}
SAME = [
    {"code": LPA},
    {"code": LPA[4:]},
    HALVES,
    HALVES | {"code": LPA},
    HALVES | {"code": ""},
    HALVES | {"code": None},
    {"code": LPA, "sm_dp_address": ADDRESS.upper(), "activationCode": f" {MATCHING_ID} "},
    {"code": LPA, "sm_dp_address": "", "activationCode": None},
    {"code": LPA, "activationCode": MATCHING_ID},
    {"code": LPA, "sm_dp_address": f"1${ADDRESS.upper()}${MATCHING_ID}$$"},
    {"sm_dp_address": LPA},
    {"sm_dp_address": LPA[4:], "activationCode": ""},
    WHOLE_IN_ADDRESS,
    WHOLE_IN_ADDRESS | {"code": LPA},
    {"sm_dp_address": ADDRESS, "activationCode": LPA},
    {"smDpAddress": ADDRESS, "activation_code": MATCHING_ID},
    *[{name: LPA} for name in ("lpa", "lpaString", "LPA", "Lpa", "lpa_string", "LPAString")],
    {"lpa": LPA[4:]},
    HALVES | {"lpa": LPA},
    {"code": LPA, "lpa": LPA[4:], "lpaString": LPA},
    {"code": "", "lpa": None, "lpaString": LPA},
]


@pytest.mark.parametrize("cls", [CardDetail, OrderCard])
@pytest.mark.parametrize("row", SAME)
def test_a_card_has_its_code_from_the_whole_or_from_its_halves(
    row: dict[str, Any], cls: Any, caplog: pytest.LogCaptureFixture
) -> None:
    card = read_row({"iccid": "8985203104000042611", **row, "apn": "x"}, cls)

    assert str(card.activation) == LPA
    assert card.extra == {"apn": "x"}
    assert not caplog.records


@pytest.mark.parametrize(
    "row",
    [
        {"code": LPA, "sm_dp_address": "other.example.test", "activationCode": MATCHING_ID},
        {"code": LPA, "sm_dp_address": ADDRESS, "activationCode": "OTHER-SECRET"},
        {"code": LPA, "sm_dp_address": ADDRESS, "activationCode": MATCHING_ID.lower()},
        {"code": LPA, "sm_dp_address": f"1${ADDRESS}$OTHER-SECRET"},
        {"code": LPA, "sm_dp_address": "2$OTHER-SECRET"},
        {"code": LPA, "sm_dp_address": f"{LPA}$$1"},
        {"code": LPA, "sm_dp_address": f"{LPA}$1.3.6.1"},
        {"code": LPA, "activationCode": f"{LPA}$$$later"},
        {"code": LPA, "sm_dp_address": f"1${ADDRESS}$"},
        {"code": LPA, "activationCode": 12345},
        {"sm_dp_address": LPA, "activationCode": "OTHER-SECRET"},
        {"code": LPA, "lpa": f"1${ADDRESS}$OTHER-SECRET"},
        {"code": LPA, "lpaString": "OTHER-SECRET"},
    ],
)
def test_of_two_codes_that_differ_the_whole_one_wins_and_the_rest_is_kept(
    row: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    taken = "code" if "code" in row else "sm_dp_address"
    for _ in range(2):
        card = read_row({"iccid": "8985203104000042611", **row}, CardDetail)
        assert str(card.activation) == LPA
        assert card.extra == {name: value for name, value in row.items() if name != taken}
    (record,) = caplog.records
    assert "activation code differs" in record.getMessage()
    for secret in (MATCHING_ID, ADDRESS, "OTHER-SECRET", "other.example", "12345"):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("row", "expected", "extra"),
    [
        ({"sm_dp_address": f"LPA:1${ADDRESS}$", "activationCode": "XYZ"}, "XYZ", []),
        ({"sm_dp_address": f"1${ADDRESS}$$1.3$1", "activationCode": " XYZ "}, "XYZ$1.3$1", []),
        ({"code": f"LPA:1${ADDRESS}$ ", "activationCode": "XYZ"}, "XYZ", []),
        ({"code": f"1${ADDRESS}$", **HALVES}, MATCHING_ID, []),
        ({"code": f"1${ADDRESS}$$$1", **HALVES}, f"{MATCHING_ID}$$1", []),
        ({"code": f"1${ADDRESS}$", "sm_dp_address": LPA}, MATCHING_ID, ["code"]),
        ({"code": f"1${ADDRESS}$", "activationCode": ""}, "", []),
        ({"code": f"1${ADDRESS}$", "activationCode": "a b"}, "", ["activationCode"]),
        ({"sm_dp_address": ADDRESS, "activationCode": ""}, "", []),
        ({"lpa": f"LPA:1${ADDRESS}$", "activationCode": "XYZ"}, "XYZ", []),
        ({"code": "odd", "lpa": f"1${ADDRESS}$XYZ"}, "XYZ", ["code"]),
    ],
)
def test_a_code_without_a_matching_id_gets_that_of_the_other_field(
    row: dict[str, Any], expected: str, extra: list[str]
) -> None:
    card = read_row(row, CardDetail)

    assert str(card.activation) == f"LPA:1${ADDRESS}${expected}"
    assert [*card.extra] == extra


@pytest.mark.parametrize(
    "row",
    [
        {"code": f"2${MATCHING_ID}"},
        {"code": MATCHING_ID},
        {"lpa": f"2${MATCHING_ID}"},
        {"sm_dp_address": f"https://{ADDRESS}", "activationCode": MATCHING_ID},
        {"sm_dp_address": f"{ADDRESS}${MATCHING_ID}"},
    ],
)
def test_an_unreadable_code_is_kept_and_reported_without_it(
    row: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    card = read_row(row, CardDetail)

    assert (card.activation, card.extra) == (None, row)
    assert "activation" in caplog.text
    assert MATCHING_ID not in caplog.text


def test_half_a_code_is_no_code_and_readable_halves_stand_in_for_an_unreadable_whole() -> None:
    for half, value in HALVES.items():
        card = read_row({half: value}, CardDetail)
        assert (card.activation, card.extra) == (None, {half: value})
    card = read_row({"code": "odd", **HALVES}, CardDetail)
    assert (str(card.activation), card.extra) == (LPA, {"code": "odd"})


DRAWN = [
    LPA,
    f"{LPA}$1.3.6.1.4.1.31746$1",
    "LPA:1$SMDP.EXAMPLE.TEST$ALL-UPPER-CASE$$1",
    f"LPA:1${ADDRESS}$",
    f"{LPA}$$1$a&b<c>\"d'%41~`",
    f"LPA:1${ADDRESS}${'x1-' * 70}",
]


@pytest.mark.parametrize("text", DRAWN)
def test_another_reader_gets_the_code_back_from_png_svg_and_terminal(text: str) -> None:
    code = ActivationCode.parse(text)

    assert read_image(code.qr_png()) == text
    assert read_image(code.qr_png(scale=3)) == text
    assert read_svg(code.qr_svg()) == text
    assert read_svg(code.qr_svg(scale=7.5), "white") == text
    assert read_terminal(code.qr_terminal(), color=True) == text
    assert read_terminal(code.qr_terminal(color=False), color=False) == text


def test_without_colours_the_light_modules_are_what_is_drawn() -> None:
    code = ActivationCode.parse(LPA)
    plain = code.qr_terminal(color=False)
    assert "\x1b" not in plain
    assert read_terminal(plain, color=False) == LPA
    assert set(plain.splitlines()[0]) == {"█"}


@settings(max_examples=20)
@given(codes)
def test_another_reader_gets_any_code_back(code: ActivationCode) -> None:
    assert read_image(code.qr_png(scale=4)) == str(code)


def test_the_picture_has_its_quiet_zone_and_can_stand_in_a_page() -> None:
    code = ActivationCode.parse(LPA)
    modules = code._qr().symbol_size(border=0)[0]
    width = int.from_bytes(code.qr_png(scale=5)[16:20])
    assert width == 5 * (modules + 2 * 4)
    size = 2 * (modules + 2 * 4)
    assert f'viewBox="0 0 {size} {size}"' in code.qr_svg(scale=2)
    assert f'width="{size}" height="{size}"' in code.qr_svg(scale=2)
    assert code.qr_svg().startswith("<svg ")
    lines = code.qr_terminal(color=False).splitlines()
    assert {len(line) for line in lines} == {modules + 8}
    assert code._qr().error == "M"


def test_a_code_too_long_to_draw_and_a_scale_of_nothing_are_refused() -> None:
    longest = ActivationCode("a.b", "x" * (2_331 - len("LPA:1$a.b$")))
    assert longest.qr_png(scale=1)
    too_long = ActivationCode("a.b", f"{longest.matching_id}x")
    for draw in (too_long.qr_svg, too_long.qr_png, too_long.qr_terminal):
        with pytest.raises(errors.InvalidRequest, match="too long for a QR code") as caught:
            draw()
        assert "xxx" not in str(caught.value)
    code = ActivationCode.parse(LPA)
    for scale in (0, -1, float("nan"), float("inf"), 101, True, "4"):
        for draw in (code.qr_svg, code.qr_png):
            with pytest.raises(errors.InvalidRequest, match="scale"):
                draw(scale=scale)  # type: ignore[operator]
    with pytest.raises(errors.InvalidRequest, match="whole"):
        code.qr_png(scale=1.5)  # type: ignore[arg-type]


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    code = ActivationCode.parse(LPA)
    for draw in (code.qr_svg, code.qr_png, code.qr_terminal):
        with pytest.raises(errors.ConfigurationError, match=r"mioesim_async\[qr\]"):
            draw()
    assert code.install_links()


@given(codes)
def test_the_links_give_the_code_back_and_nothing_in_them_is_left_bare(
    code: ActivationCode,
) -> None:
    links = code.install_links()
    hosts = {links.ios: "esimsetup.apple.com", links.android: "esimsetup.android.com"}
    for link, host in hosts.items():
        parts = urlsplit(link)
        assert (parts.scheme, parts.netloc) == ("https", host)
        assert (parts.path, parts.fragment) == ("/esim_qrcode_provisioning", "")
        assert parse_qs(parts.query, strict_parsing=True) == {"carddata": [str(code)]}
        assert not set("$:+& ") & set(parts.query.removeprefix("carddata="))
    assert pickle.loads(pickle.dumps(links)) == links
    assert isinstance(links, InstallLinks)
