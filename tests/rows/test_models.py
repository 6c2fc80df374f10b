"""The vendor's rows to models, and models and errors to pickles, copies and JSON."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from mioesim_async import errors
from mioesim_async.clock import GMT8
from mioesim_async.errors import InvalidRequest, MioEsimError, ProtocolError
from mioesim_async.models.activation import ActivationCode
from mioesim_async.models.cards import (
    CardDetail,
    CardOutcome,
    CardReport,
    CardStatus,
    DpStatus,
    PastPlan,
)
from mioesim_async.models.catalogue import Package, Sku, SkuPackages
from mioesim_async.models.orders import Order, OrderUsage
from mioesim_async.models.plain import to_dict
from mioesim_async.rows.layout import read_good_rows, read_row

A, B = "8985203104000042611", "8985203104000042629"
CODE = "MADE-UP-MATCHING-ID"
LPA = f"LPA:1$smdp.example.test${CODE}"

Copier = Callable[[Any], Any]
COPIERS: list[Copier] = [
    *(lambda it, p=protocol: pickle.loads(pickle.dumps(it, p)) for protocol in range(2, 6)),
    copy.copy,
    copy.deepcopy,
]


def package(**fields: Any) -> Package:
    """Read a package from the vendor's spelling."""
    return read_row({"priceid": 441, "price": "2.50", **fields}, Package)


@pytest.mark.parametrize(
    "used", [{"usedMB": "12.5"}, {"usedMb": 12.5}, {"usedmb": "12.50"}, {"used_mb": 12.5}]
)
@pytest.mark.parametrize("sku", [{"skuid": 45}, {"skuId": "45"}, {"SkuID": 45}])
@pytest.mark.parametrize("start", ["startDate", "beginDate", "startTime"])
def test_a_card_is_the_same_in_every_spelling(
    used: dict[str, Any], sku: dict[str, Any], start: str
) -> None:
    row = {
        "iccid": A, "dpStatus": "ACTIVE", **used, **sku, "remainingMB": "1GB", "data": "6GB",
        start: "2024-12-24", "endDate": "2024-12-31", "orderNum": "EP20240124000013",
    }  # fmt: skip
    card = read_row(row, CardStatus)

    assert card == CardStatus(
        A, DpStatus.ACTIVE, 12.5, 1024.0, 6144.0,
        datetime(2024, 12, 24, tzinfo=GMT8),
        datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=GMT8),
        "EP20240124000013", 45,
    )  # fmt: skip


def test_missing_fields_are_none_and_zero_use_is_zero() -> None:
    assert read_row({}, CardStatus) == CardStatus()
    assert read_row({"usedMB": "0"}, CardStatus).used_mb == 0.0
    assert read_row({"usedMB": "", "dpStatus": None, "endDate": ""}, CardStatus) == CardStatus()


def test_an_unknown_field_is_kept_as_it_came() -> None:
    extra = {"apn": "internet", "validity": 30, "nested": {"a": [1, None]}, "note": None}

    for cls in (CardStatus, CardDetail, PastPlan, Sku, Package, SkuPackages):
        assert read_row(dict(extra), cls).extra == extra


@pytest.mark.parametrize("key", ["skuid", "skuId"])
def test_a_sku_is_the_same_in_every_spelling(key: str) -> None:
    row = {key: 45, "display": "Japan", "countryCode": 81, "note": None}

    assert read_row(row, Sku) == Sku(45, "Japan", "81", {"note": None})


@pytest.mark.parametrize("plans", ["esimPackageDtoList", "esimPackageVoList"])
@pytest.mark.parametrize("price_id", ["priceid", "priceId"])
def test_packages_come_from_either_list_and_know_their_sku(plans: str, price_id: str) -> None:
    row = {
        "skuid": 45,
        "display": "Japan",
        "displayEn": "JP",
        plans: [{price_id: 441}, {price_id: 2}],
    }
    found = read_row(row, SkuPackages)

    assert (found.sku_id, found.display, found.extra) == (45, "Japan", {"displayEn": "JP"})
    assert [(plan.sku_id, plan.price_id) for plan in found.packages] == [(45, 441), (45, 2)]


def test_a_sku_without_plans_has_an_empty_list() -> None:
    for row in ({"skuid": 1}, {"skuid": 1, "esimPackageDtoList": None, "esimPackageVoList": []}):
        assert read_row(row, SkuPackages) == SkuPackages(1)


def test_the_countries_that_a_sku_covers_are_a_field() -> None:
    found = read_row({"skuid": 1, "supportCountry": ["Japan", "Korea"]}, SkuPackages)
    assert found.coverage == ["JP", "KR"]


def test_a_package_reads_its_flags_amount_and_prices() -> None:
    plan = package(
        flows=3, unit="GB", days="7", openCardFee=0.1, flowType=0, supportDaypass="2",
        mustDate=1, minDay=1, maxDay="30", apiCode="826-0-?-500-M-D", premark="<b>no</b>",
    )  # fmt: skip

    assert plan == Package(
        None, 441, "826-0-?-500-M-D", 3072.0, 7, Decimal("2.50"), Decimal("0.1"),
        True, True, True, 1, 30, {"premark": "<b>no</b>"},
    )  # fmt: skip
    plain = package(supportDaypass="0", flowType="1", mustDate="0")
    assert (plain.is_day_pass, plain.is_renewable, plain.needs_begin_date) == (False, False, False)


def test_an_amount_without_its_unit_stays_in_extra() -> None:
    assert package(flows=3).extra == {"flows": 3}
    odd = package(flows=3, unit="parsec")
    assert (odd.data_mb, odd.extra) == (None, {"flows": 3, "unit": "parsec"})


def test_a_past_plan_is_read_like_an_order() -> None:
    row = {"orderNum": "EP1", "skuName": "Japan", "status": "5", "beginDate": "12/24/2024"}
    plan = read_row({**row, "endDate": "12/24/2024", "totle": "9"}, PastPlan)

    assert (plan.order_num, plan.display, plan.status) == ("EP1", "Japan", 5)
    assert plan.starts_at == datetime(2024, 12, 24, tzinfo=GMT8)
    assert plan.ends_at == datetime(2024, 12, 24, 23, 59, 59, 999_999, tzinfo=GMT8)
    assert plan.extra == {"totle": "9"}


def test_an_unreadable_date_stays_in_extra_and_is_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for _ in range(3):
        card = read_row({"iccid": A, "endDate": "2024-02-30"}, CardStatus)
        assert (card.ends_at, card.extra) == (None, {"endDate": "2024-02-30"})

    assert len(caplog.records) == 1
    assert "endDate" in caplog.text
    assert "2024-02-30" not in caplog.text


@pytest.mark.parametrize(
    ("cls", "row", "name"),
    [
        (CardStatus, {"usedMB": "s3cret-MB"}, "usedMB"),
        (CardDetail, {"usedMb": ["s3cret-MB"]}, "usedMb"),
        (CardStatus, {"dpStatus": {"s3cret-MB": 1}}, "dpStatus"),
        (Sku, {"skuid": "s3cret-MB"}, "skuid"),
        (Package, {"priceId": "s3cret-MB"}, "priceId"),
        (Package, {"price": "s3cret-MB"}, "price"),
        (Package, {"mustDate": "s3cret-MB"}, "mustDate"),
    ],
)
def test_an_unreadable_number_makes_the_row_a_protocol_error_that_names_the_field(
    cls: type, row: dict[str, Any], name: str
) -> None:
    with pytest.raises(ProtocolError, match=f"{cls.__name__}: field '{name}'") as caught:
        read_row(row, cls)
    error = caught.value
    assert error.reason == "shape"
    assert "s3cret" not in str(error) + repr(error)
    assert error.__cause__ is None
    assert error.__context__ is None


@pytest.mark.parametrize("row", [None, [], "text", 1])
def test_a_row_that_is_no_object_is_a_protocol_error(row: Any) -> None:
    with pytest.raises(ProtocolError, match="expected an object"):
        read_row(row, CardStatus)


def test_a_bad_row_of_a_list_is_reported_and_the_others_are_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert [sku.sku_id for sku in read_good_rows([{"skuid": 1}, {"skuid": "s3cret"}], Sku)] == [1]
    assert "row 1 was skipped" in caplog.text
    assert "'skuid'" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_spellings_the_preferred_one_wins_and_the_other_is_kept(turned: bool) -> None:
    pairs = [("beginDate", "2024-01-02"), ("startDate", "2024-01-01"), ("apn", "x")]
    card = read_row(dict(reversed(pairs) if turned else pairs), CardStatus)

    assert card.starts_at == datetime(2024, 1, 1, tzinfo=GMT8)
    assert card.extra == {"beginDate": "2024-01-02", "apn": "x"}
    assert read_row({"startDate": None, "beginDate": "2024-01-02"}, CardStatus).extra == {}


@pytest.mark.parametrize("known", list(DpStatus))
def test_a_known_status_is_known_in_any_case(known: DpStatus) -> None:
    for spelling in (known.value, known.value.upper(), known.value.lower(), f" {known.value} "):
        assert read_row({"dpStatus": spelling}, CardStatus).dp_status is known
    assert known.is_known
    assert pickle.loads(pickle.dumps(known)) is known


def test_an_unknown_status_keeps_its_value_also_when_copied() -> None:
    for copier in (lambda card: card, *COPIERS):
        status = copier(read_row({"dpStatus": "FrOzen"}, CardStatus)).dp_status

        assert isinstance(status, DpStatus)
        assert (str(status), status.value, status.is_known) == ("FrOzen", "FrOzen", False)
        assert status == DpStatus("FrOzen")
        assert status not in list(DpStatus)


def test_thousands_of_unknown_statuses_are_kept_without_filling_memory() -> None:
    many = [DpStatus(f"odd-{number}") for number in range(3_000)]

    assert [str(status) for status in many] == [f"odd-{number}" for number in range(3_000)]
    assert copy.deepcopy(many) == pickle.loads(pickle.dumps(many)) == many
    assert len(DpStatus._value2member_map_) < 1_000


def test_a_plan_costs_its_price_and_its_fee_once() -> None:
    assert package().total_price() == Decimal("2.50")
    assert package(openCardFee="0.30").total_price() == Decimal("2.80")
    assert package(price=0.1, openCardFee=0.2).total_price() == Decimal("0.3")
    assert package(supportDaypass=1, openCardFee="0.30").total_price(days=3) == Decimal("7.80")
    assert package(supportDaypass=2, minDay=2, maxDay=5).total_price(days=5) == Decimal("12.50")


@pytest.mark.parametrize(
    ("fields", "days", "problem"),
    [
        ({"price": None}, None, "gave no price"),
        ({}, 3, "is no day pass"),
        ({"supportDaypass": 1}, None, "needs days="),
        ({"supportDaypass": 1}, 0, "out of range"),
        ({"supportDaypass": 1}, -1, "out of range"),
        ({"supportDaypass": 1, "minDay": 2, "maxDay": 5}, 1, "2 to 5"),
        ({"supportDaypass": 1, "minDay": 2, "maxDay": 5}, 6, "2 to 5"),
    ],
)
def test_a_price_is_never_guessed(fields: dict[str, Any], days: int | None, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        package(**fields).total_price(days=days)


DETAIL = read_row(
    {
        "iccid": A,
        "dpStatus": "Odd",
        "usedMB": "1",
        "endDate": "2024-12-24",
        "code": LPA,
        "apn": "net",
    },
    CardDetail,
)
STATUS = read_row({"iccid": B, "dpStatus": "Enable", "code": LPA, "data": "6GB"}, CardStatus)
REFUSED = errors.NotFound("/x", -3, "none", {"code": LPA}, "check it")
MODELS: list[Any] = [
    STATUS,
    DETAIL,
    DETAIL.activation,
    PastPlan("EP1", "Japan", 5, datetime(2024, 1, 1, tzinfo=GMT8), None, {"note": CODE}),
    Sku(1, "Japan", "81", {"note": CODE}),
    read_row({"skuid": 1, "esimPackageVoList": [{"price": "1.10", "pid": CODE}]}, SkuPackages),
    package(flows=1, unit="GB", premark=CODE),
    CardOutcome(A, DETAIL),
    CardReport({A: DETAIL}, [B], {}),
    read_row(
        {
            "orderNum": "EP1",
            "status": 9,
            "price": "1.10",
            "purchaseDate": "2024-01-01",
            "note": CODE,
            "cardApiDtoList": [{"iccid": A, "code": LPA, "pdfUrl": f"http://x/{CODE}"}],
        },
        Order,
    ),
    read_row({"orderNum": "EP1", "packageList": [{"iccid": A, "note": CODE}]}, OrderUsage),
]
models = pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)

ERRORS = {
    name: cls
    for name, cls in vars(errors).items()
    if inspect.isclass(cls) and issubclass(cls, MioEsimError)
}
SPECIAL: dict[type[MioEsimError], MioEsimError] = {
    InvalidRequest: InvalidRequest("first", "second"),
    errors.DeadlineExceeded: errors.DeadlineExceeded("late", errors.ConnectError("refused")),
    errors.RateLimited: errors.RateLimited("slow down", 2.5),
    ProtocolError: ProtocolError("cut", "truncated"),
    errors.OutcomeUnknown: errors.OutcomeUnknown(
        "who knows", other_order_id="r1", order_num="EP1", data=[1], last_error=REFUSED
    ),
    errors.OrderIncomplete: errors.OrderIncomplete("read it", order_num="EP1", other_order_id="r"),
    errors.DuplicateOrder: errors.DuplicateOrder("used", other_order_id="r", order_num="EP1"),
    errors.SpendLimitReached: errors.SpendLimitReached(
        "enough", max_spend=Decimal("1.5"), spent=Decimal(1), line={"sku_id": 1}
    ),
    errors.HttpStatusError: errors.HttpStatusError("HTTP 503", 503, 1.5),
}


def an_error(cls: type[MioEsimError]) -> MioEsimError:
    """Make an error of a class, with every attribute set."""
    if issubclass(cls, errors.ApiError):
        return cls("/x", -3, "none", {"code": LPA}, "check it")
    return copy.copy(SPECIAL.get(cls) or cls("what happened"))


def plain(value: Any) -> Any:
    """Make errors comparable, whatever they are nested in."""
    if isinstance(value, BaseException):
        return type(value), str(value), value.args, {k: plain(v) for k, v in vars(value).items()}
    return value


@models
def test_every_model_survives_pickle_and_copy(model: Any) -> None:
    for copier in COPIERS:
        copied = copier(model)

        assert copied == model
        assert type(copied) is type(model)
        assert copied is not model


@pytest.mark.parametrize("cls", ERRORS.values(), ids=list(ERRORS))
def test_every_error_survives_pickle_and_copy(cls: type[MioEsimError]) -> None:
    error = an_error(cls).at("/api_esim/x")
    error.add_note("a note")
    error.tally = {"found": 3}
    error.report = CardReport({A: STATUS})

    for copier in COPIERS:
        copied = copier(error)

        assert copied is not error
        assert plain(copied) == plain(error)
        assert (copied.endpoint, copied.__notes__) == ("/api_esim/x", ["a note"])
        assert str(copied) == str(error) != ""


def test_every_error_of_the_module_is_exported_and_rooted_in_one_tree() -> None:
    assert sorted(ERRORS) == sorted(errors.__all__)


@models
def test_no_text_of_a_model_holds_the_activation_code_or_extra(model: Any) -> None:
    told = repr(model) + repr([model]) + f"{model!r:>5}"
    if not isinstance(model, ActivationCode):
        told += str(model) + f"{model}"
    assert CODE not in told
    assert "extra" not in told


def test_the_data_of_a_refusal_is_in_none_of_its_texts() -> None:
    assert REFUSED.data == {"code": LPA}
    assert CODE not in str(REFUSED) + repr(REFUSED) + repr(CardOutcome(A, error=REFUSED))


@models
def test_a_dict_of_a_model_is_json_and_tells_everything(model: Any) -> None:
    written = to_dict(model, activation=True)
    text = json.dumps(written, allow_nan=False)

    assert json.loads(text) == written
    assert CODE in text
    assert LPA not in json.dumps(to_dict(model))
    if not isinstance(model, ActivationCode):
        assert list(written) == [field.name for field in type(model).__attrs_attrs__]


def test_a_dict_has_times_with_offset_money_as_text_and_errors_by_name() -> None:
    models = [DETAIL, package(price="1.10", seen=Decimal("0.30")), {"failed": REFUSED}]
    written = to_dict(models, activation=True)

    assert written[0]["ends_at"] == "2024-12-24T23:59:59.999999+08:00"
    assert (written[0]["dp_status"], written[0]["activation"]) == ("Odd", LPA)
    assert "activation" not in to_dict(models)[0]
    assert (written[1]["price"], written[1]["extra"]) == ("1.10", {"seen": "0.30"})
    assert written[2] == {"failed": {"type": "NotFound", "message": str(REFUSED)}}
    assert CODE not in json.dumps(written[2])
