"""Countries as ISO codes, and the vendor's codes of plans."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, example, given, strategies as st
from waiting import SECONDS

from mioesim_async import ApiCode, Package, Sku, SkuPackages, errors, to_dict
from mioesim_async.models import coverage
from mioesim_async.models.coverage import ALIASES, _folded, alpha2, read_countries
from mioesim_async.rows import layout
from mioesim_async.rows.layout import read_row

WHOLE = st.integers(0, 99_999).map(str)
CODES = st.builds(
    "{}-{}-{}-{}-{}{}".format,
    st.one_of(st.integers(1, 999), st.integers(99_000, 99_999)),
    st.sampled_from("01"),
    st.one_of(st.just("?"), WHOLE),
    st.one_of(WHOLE, st.tuples(WHOLE, st.from_regex(r"\A[0-9]{1,4}\Z")).map(".".join)),
    st.sampled_from("GM"),
    st.sampled_from(["", "-D"]),
)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Japan", "JP"), ("JAPAN ", "JP"), ("jp", "JP"), ("JPN", "JP"),
        ("South Korea", "KR"), ("Korea", "KR"), ("Korea, Republic of", "KR"),
        ("Korea (South)", "KR"), ("North Korea", "KP"), ("UAE", "AE"),
        ("United Arab Emirates", "AE"), ("China.HongKong", "HK"), ("HongKong", "HK"),
        ("Hong Kong(China)", "HK"), ("Hong Kong SAR China", "HK"), ("China.Macao", "MO"),
        ("Macau", "MO"), ("Macao", "MO"), ("Taiwan", "TW"), ("China.Taiwan", "TW"),
        ("China", "CN"), ("Mainland China", "CN"), ("Bosnia  and Herzegovina", "BA"),
        ("Bosnia & Herzegovina", "BA"), ("USA", "US"), ("United States", "US"),
        ("UK", "GB"), ("United Kingdom", "GB"), ("Great Britain", "GB"), ("Turkey", "TR"),
        ("Türkiye", "TR"), ("TURKIYE", "TR"), ("Czech Republic", "CZ"), ("Czechia", "CZ"),
        ("Ivory Coast", "CI"), ("Cote d'Ivoire", "CI"), ("Côte d\u2019Ivoire", "CI"),
        ("Laos", "LA"), ("Vietnam", "VN"), ("Viet Nam", "VN"), ("Russia", "RU"),
        ("Moldova", "MD"), ("Macedonia", "MK"), ("North Macedonia", "MK"), ("Kosovo", "XK"),
        ("DR Congo", "CD"), ("Democratic Republic of the Congo", "CD"), ("Congo", "CG"),
        ("Canary Islands", "ES"), ("Swaziland", "SZ"), ("The Gambia", "GM"),
        ("St. Lucia", "LC"), ("St Kitts and Nevis", "KN"), ("ST", "ST"), ("Curacao", "CW"),
        ("Reunion", "RE"), ("Iran", "IR"), ("Tanzania", "TZ"), ("Brunei", "BN"),
        ("Syria", "SY"), ("Palestine", "PS"), ("Vatican", "VA"), ("Cape Verde", "CV"),
        ("US Virgin Islands", "VI"), ("British Virgin Islands", "VG"), ("Åland", "AX"),
    ],
)  # fmt: skip
def test_a_name_of_the_vendor_s_gives_the_code_of_the_standard(name: str, code: str) -> None:
    assert alpha2(name) == code


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("826", "GB"), ("36", "AU"), ("036", "AU"), ("4", "AF"), ("410", "KR"), ("784", "AE"),
        ("344", "HK"), ("688", "RS"), ("891", "RS"), ("99001", None), ("99999", None),
        ("0", None), ("999", None), ("", None), ("9" * 40, None), ("\u0663\u0666", None),
    ],
)  # fmt: skip
def test_a_number_may_be_unpadded_withdrawn_or_a_region(number: str, code: str | None) -> None:
    assert alpha2(number) == code


@pytest.mark.parametrize("name", ["Europe", "Atlantis", "Niger ia x", "Kore", "the", "-", "Guin"])
def test_a_country_is_never_guessed(name: str) -> None:
    assert alpha2(name) is None


def test_every_name_and_number_of_the_standard_gives_its_own_code() -> None:
    import pycountry

    for country in pycountry.countries:
        assert alpha2(country.name) == country.alpha_2
        assert alpha2(country.alpha_2) == alpha2(country.alpha_3) == country.alpha_2
        assert alpha2(str(int(country.numeric))) == alpha2(country.numeric) == country.alpha_2


def test_no_alias_stands_twice_or_is_in_the_standard_already() -> None:
    import pycountry

    folded = [_folded(alias) for aliases in ALIASES.values() for alias in aliases]
    assert len(folded) == len(set(folded))
    standard = {_folded(name) for country in pycountry.countries for _, name in country}
    assert not standard & set(folded)


def test_codes_come_once_in_order_and_unknown_names_apart() -> None:
    names = ["Korea", "Atlantis", "South Korea", "Japan", "Atlantis"]
    assert read_countries(names) == (["KR", "JP"], ["Atlantis"])


def test_an_unknown_name_is_kept_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    names = ["Japan", "Atlantis"]
    for _ in range(3):
        found = read_row({"skuid": 1, "supportCountry": list(names)}, SkuPackages)
        assert found.coverage == ["JP"]
        assert found.extra == {"supportCountry": names, "unknown_coverage": ["Atlantis"]}
    assert [record.getMessage() for record in caplog.records] == [
        "coverage: 'Atlantis' is not a known country; kept in extra, reported once"
    ]


def test_a_package_covers_what_its_sku_covers_unless_it_says_so_itself() -> None:
    plans = [{"priceid": 1}, {"priceid": 2, "supportCountry": "China.HongKong"}]
    row = {"skuid": 1, "supportCountry": ["Japan", "UAE"], "esimPackageDtoList": plans}
    one, two = read_row(row, SkuPackages).packages
    assert (one.coverage, two.coverage) == (["JP", "AE"], ["HK"])


def test_no_coverage_is_an_empty_list() -> None:
    for countries in (None, [], "", [None, " "]):
        assert read_row({"skuid": 1, "supportCountry": countries}, SkuPackages).coverage == []


@pytest.mark.parametrize(
    ("code", "country", "region"),
    [
        (826, "GB", False), ("826", "GB", False), ("036", "AU", False), (891, "RS", False),
        (99001, None, True), ("99001", None, True), (None, None, False), ("JP", "JP", False),
    ],
)  # fmt: skip
def test_a_sku_knows_its_country_or_that_it_is_a_region(
    code: Any, country: str | None, region: bool
) -> None:
    sku = read_row({"skuid": 1, "countryCode": code}, Sku)
    assert (sku.country, sku.is_region) == (country, region)


def test_importing_the_package_and_making_a_client_load_no_table_of_countries() -> None:
    program = (
        "import sys; from mioesim_async import MioEsimClient, Sku, ApiCode;"
        "assert 'pycountry' not in sys.modules; assert Sku(1, None, '36').country == 'AU';"
        "assert 'pycountry' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=SECONDS)


WITHOUT_PYCOUNTRY = """
import asyncio, logging, sys
logging.basicConfig(format="%(message)s")
sys.modules["pycountry"] = None
from mioesim_async import ApiCode, Sku, SkuPackages, errors
from mioesim_async.rows.layout import read_row
from mioesim_async.sandbox import Sandbox

plans = [{"priceid": 1}, {"priceid": 2, "supportCountry": "China.HongKong"}]
row = {"skuid": 1, "supportCountry": ["Japan", "UAE", "Japan"], "esimPackageDtoList": plans}
for _ in range(2):
    found = read_row(row, SkuPackages)
    print(found.coverage, [plan.coverage for plan in found.packages], sorted(found.extra))
print(Sku(1, None, "99001").country, ApiCode.parse("99001-1-30-1.5-G").country_alpha2)
code = ApiCode.parse("36-0-7-1-G")
for ask in (lambda: Sku(1, None, "826").country, lambda: code.country_alpha2):
    try:
        ask()
    except errors.ConfigurationError as error:
        print(error)

async def crawl():
    async with Sandbox() as sandbox, sandbox.client() as client:
        return [outcome.packages.coverage async for outcome in client.catalogue.crawl()]

print(["Japan"] in asyncio.run(crawl()))
"""


def test_without_pycountry_coverage_has_names_and_a_code_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYCOUNTRY],
        check=False,
        timeout=SECONDS,
        capture_output=True,
        text=True,
    )
    read = "['Japan', 'UAE'] [['Japan', 'UAE'], ['China.HongKong']] ['supportCountry']"
    hint = "country codes need pycountry; install it with: pip install 'mioesim_async[coverage]'"
    assert done.stderr == f"{hint} (without it, coverage has the vendor's names)\n"
    assert done.stdout.splitlines() == [read, read, "None None", hint, hint, "True"]


GRAMMAR = re.compile(r"\d{1,5}-[01]-(\?|0|[1-9]\d*)-(0|[1-9]\d*)(\.\d+)?-[GM](-D)?", re.ASCII)


@given(CODES)
def test_a_code_of_the_grammar_comes_back_the_same(text: str) -> None:
    code = ApiCode.parse(text)
    assert str(code) == text
    assert ApiCode.parse(str(code)) == code
    assert code.is_day_pass == ("?" in text or text.endswith("-D"))


@given(st.text(alphabet="0189?GMD-. x", max_size=20))
@example("826-0-7-500-M-")
@example("826-0-7-500-M-D ")
def test_any_other_text_is_refused_with_a_reason(text: str) -> None:
    assume(not GRAMMAR.fullmatch(text))
    with pytest.raises(errors.InvalidRequest, match="apiCode"):
        ApiCode.parse(text)


def test_a_code_is_taken_apart() -> None:
    code = ApiCode.parse("826-0-?-500-M-D")
    assert code == ApiCode("826", 0, None, Decimal(500), "M", day_suffix=True)
    assert (code.data_mb, code.country_alpha2, code.is_region) == (500.0, "GB", False)
    region = ApiCode.parse("99001-1-30-1.5-G")
    assert (region.data_mb, region.country_alpha2, region.is_region) == (1536.0, None, True)
    assert (region.days, region.flag, region.is_day_pass) == (30, 1, False)
    assert json.loads(json.dumps(to_dict({"code": code}))) == {"code": "826-0-?-500-M-D"}
    assert pickle.loads(pickle.dumps(code)) == copy.deepcopy(code) == code
    assert len({code, ApiCode.parse(str(code))}) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not <country>"), ("826-0-7-500", "is not <country>"),
        ("826-0-7-500-M-D-D", "is not <country>"), ("826-0-7-500-M-X", "is not <country>"),
        ("GB-0-7-500-M", "country .* must be"), ("826-2-7-500-M", "flag .* must be 0 or 1"),
        ("826-0-x-500-M", "days .* must be"), ("826-0-07-500-M", "leading zeros"),
        ("826-0-7-1e3-M", "amount .* must be"), ("826-0-7-5-K", "unit .* must be G or M"),
        ("826-0-7-5-m", "unit .* must be G or M"), (826, "is text, not int"),
        ("826-0-7-500-M\n", "unit .* must be"),
    ],
)  # fmt: skip
def test_a_malformed_code_is_refused_with_what_is_wrong(text: Any, reason: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=reason) as caught:
        ApiCode.parse(text)
    assert isinstance(caught.value, ValueError)


@given(
    cents=st.integers(0, 10_000_000),
    fee=st.integers(0, 100_000),
    days=st.integers(1, 365),
    as_text=st.booleans(),
)
def test_a_price_has_no_float_noise_whichever_way_it_came(
    cents: int, fee: int, days: int, as_text: bool
) -> None:
    price, card = Decimal(cents).scaleb(-2), Decimal(fee).scaleb(-2)
    row: dict[str, Any] = {"price": float(price), "openCardFee": float(card), "supportDaypass": 1}
    if as_text:
        row |= {"price": str(price), "openCardFee": str(card)}
    plan = read_row(row, Package)
    assert plan.price == price
    assert plan.total_price(days=days) == price * days + card
    assert len(str(plan.total_price(days=days)).partition(".")[2]) <= 2


@pytest.mark.parametrize("days", [True, 1.5, "3", Decimal(3)])
def test_days_that_are_no_whole_number_are_refused(days: Any) -> None:
    plan = read_row({"price": 1, "supportDaypass": 1}, Package)
    with pytest.raises(errors.InvalidRequest, match="whole number"):
        plan.total_price(days=days)


def test_the_tables_are_loaded_in_steps_and_once() -> None:
    coverage._tables.cache_clear()
    assert len([*coverage.load_tables_in_steps()]) >= 5
    assert coverage._tables.cache_info().currsize == 1
    assert [*coverage.load_tables_in_steps()] == []
    assert alpha2("Japan") == "JP"


def test_thousands_of_unknown_names_are_kept_and_only_some_of_them_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = ["Japan", *(f"Nowhere {number}" for number in range(3_000))]
    for plan in range(200):
        row = {"priceid": plan, "supportCountry": [*names, f"Elsewhere {plan}"]}
        package = read_row(row, Package)
        assert package.coverage == ["JP"]
        assert package.extra["unknown_coverage"] == [*names[1:], f"Elsewhere {plan}"]
    assert len(caplog.records) <= 40
    assert alpha2("x" * 200_000) is None
    for number in range(3_000):
        layout.report_once("plan", str(number), "can't be read")
    assert len(caplog.records) <= 1_000
