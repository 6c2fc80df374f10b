"""JSON Schemas and pydantic models of what ``to_dict`` writes."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Sequence
from datetime import date
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs
import fastapi
import httpx
import pydantic
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from waiting import SECONDS

import mioesim_async
from mioesim_async import (
    ActivationCode,
    ApiCode,
    CardDetail,
    CardOutcome,
    CardReport,
    CardStatus,
    DpStatus,
    InstallLinks,
    MioEsimClient,
    Order,
    OrderCard,
    OrderLine,
    OrderStatus,
    OrderUsage,
    Package,
    RenewalLine,
    SkuGroup,
    UsagePage,
    errors,
    json_schema,
    schemas,
    to_dict,
)
from mioesim_async.models.plain import is_hidden
from mioesim_async.sandbox import Sandbox

TEXTS = (ActivationCode, ApiCode, InstallLinks)
"""Models that ``to_dict`` writes as text, or not at all."""

MODELS = [
    model
    for model in (getattr(mioesim_async, name) for name in mioesim_async.__all__)
    if isinstance(model, type)
    and attrs.has(model)
    and (model.__module__.startswith("mioesim_async.models.") or model.__name__ == "Health")
    and model not in TEXTS
]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


def in_json(kind: Any) -> Any:
    """Return the type that a pydantic model has in the place of a model's type."""
    if isinstance(kind, TypeVar):
        return in_json(kind.__bound__)
    if isinstance(kind, type):
        if issubclass(kind, errors.MioEsimError):
            return schemas.Error
        if attrs.has(kind) and kind not in TEXTS:
            return getattr(schemas, kind.__name__)
    plain = {DpStatus: str, OrderStatus: int, ActivationCode: str, ApiCode: str}
    if kind in plain:
        return plain[kind]
    origin, parts = get_origin(kind), tuple(in_json(part) for part in get_args(kind))
    if origin in (Union, types.UnionType):
        return Union[parts]  # noqa: UP007 - the parts are in a variable
    return kind if origin is None else (list if origin is Sequence else origin)[parts]


@every_model
def test_a_pydantic_model_has_the_fields_types_and_defaults_of_its_model(model: type) -> None:
    schema = getattr(schemas, model.__name__)
    hints, own = get_type_hints(model), get_type_hints(schema)
    assert {*schema.model_fields} == {field.name for field in attrs.fields(model)}
    for field in attrs.fields(model):
        mirrored = schema.model_fields[field.name]
        assert own[field.name] == in_json(hints[field.name]), field.name
        assert mirrored.is_required() is (field.default is attrs.NOTHING), field.name
        assert bool(mirrored.exclude) is is_hidden(field), field.name
        if not isinstance(field.default, attrs.Factory) and not mirrored.is_required():
            assert mirrored.default == field.default, field.name


def test_a_pydantic_model_with_activation_has_the_same_fields_and_hides_none() -> None:
    for name in ("CardDetail", "OrderCard", "Order"):
        usual, whole = getattr(schemas, name), getattr(schemas, f"{name}WithActivation")
        assert {*whole.model_fields} == {*usual.model_fields}
        assert not any(field.exclude for field in whole.model_fields.values())


@every_model
def test_both_schemas_describe_the_same_fields(model: type) -> None:
    ours = json_schema(model)["$defs"][model.__name__]
    theirs = getattr(schemas, model.__name__).model_json_schema(mode="serialization")
    theirs = theirs.get("$defs", {}).get(model.__name__, theirs)
    assert {*ours["properties"]} == {*theirs["properties"]}
    assert {*ours["required"]} == {*theirs["required"]}


async def models_of(client: MioEsimClient, sandbox: Sandbox) -> list[Any]:
    """Read one model of each kind from the sandbox."""
    one = sandbox.iccids[0]
    order = await client.orders.place(sku_id=45, price_id=441, count=2)
    detail = await client.cards.detail(one)
    crawl = client.catalogue.crawl()
    async with crawl:
        outcomes = [outcome async for outcome in crawl]
    outcomes[0].error = errors.NotFound("getSkus", 5, f"no {detail.activation}", None)
    report = await client.cards.query_all([one, "8999000000000000001"])
    report.failed["8999000000000000002"] = errors.InvalidRequest("wrong")
    package = outcomes[-1].packages.packages[0]
    usage = await client.orders.usage(order_num=order.order_num)
    return [
        detail, *await client.cards.query(sandbox.iccids[:3]), *report.cards.values(), report,
        CardOutcome(one, detail), CardOutcome(str(detail.activation)), order, *order.cards,
        await client.orders.get(order.order_num), *await client.cards.history(one), usage,
        *usage, *await client.catalogue.sku_groups(), *await client.partners.list(), *outcomes[-3:],
        crawl.stats, package, client.health(),
        OrderLine(sku_id=45, price_id=441, package=package, begin_date=date(2026, 1, 2)),
        RenewalLine(iccid=one, api_code="392-0-7-1-G"),
        Order("EP1", OrderStatus(99), is_recorded=True), CardStatus(dp_status=DpStatus("Odd")),
    ]  # fmt: skip


@pytest.mark.parametrize("activation", [False, True])
async def test_what_to_dict_writes_of_sandbox_models_fits_their_json_schema(
    client: MioEsimClient, sandbox: Sandbox, activation: bool
) -> None:
    seen = set[type]()
    for model in await models_of(client, sandbox):
        schema = json_schema(type(model), activation=activation)
        Draft202012Validator.check_schema(schema)
        told = json.loads(json.dumps(to_dict(model, activation=activation)))
        Draft202012Validator(schema, format_checker=FormatChecker()).validate(told)
        assert [*told] == [*schema["$defs"][type(model).__name__]["properties"]]
        seen.add(type(model))
    assert {CardDetail, Order, OrderCard, CardReport, UsagePage, OrderUsage, SkuGroup} <= seen


async def test_a_pydantic_model_writes_the_json_of_to_dict(
    client: MioEsimClient, sandbox: Sandbox
) -> None:
    for model in await models_of(client, sandbox):
        usual = getattr(schemas, type(model).__name__).model_validate(model)
        expected = json.dumps(to_dict(model)).replace("+00:00", "Z")
        assert json.loads(usual.model_dump_json()) == json.loads(expected)
        assert "LPA:" not in usual.model_dump_json() + repr(usual) + str(usual.__dict__)
        if whole := getattr(schemas, f"{type(model).__name__}WithActivation", None):
            written = whole.model_validate(model)
            assert json.loads(written.model_dump_json()) == to_dict(model, activation=True)
            assert "LPA:" not in repr(written)


def test_a_value_of_another_type_does_not_fit() -> None:
    told = to_dict(CardDetail("8985000000000000000"))
    validator = Draft202012Validator(json_schema(CardDetail))
    validator.validate(told)
    for wrong in ({"used_mb": "1"}, {"iccid": None}, {"sku_id": 1.5}, {"extra": []}):
        with pytest.raises(ValidationError):
            validator.validate(told | wrong)
    with pytest.raises(ValidationError, match="required"):
        validator.validate({"iccid": "8985000000000000000"})


def test_codes_are_in_a_json_schema_only_when_asked_for() -> None:
    for model, names in ((CardDetail, {"activation"}), (OrderCard, {"activation", "pdf_url"})):
        usual, whole = (
            json_schema(model, activation=activation)["$defs"][model.__name__]["properties"]
            for activation in (False, True)
        )
        assert {*whole} - {*usual} == names


@pytest.mark.parametrize("wrong", [str, ActivationCode, ApiCode, dict, MioEsimClient])
def test_a_json_schema_is_made_of_models_only(wrong: type) -> None:
    with pytest.raises(errors.InvalidRequest, match="class of a model"):
        json_schema(wrong)


def test_a_pydantic_model_takes_data_of_another_source_and_hides_it_too() -> None:
    lpa = "LPA:1$smdp.example$SECRET"
    row = {"iccid": lpa, "activation": lpa, "pdf_url": "http://x", "extra": {"esim": lpa, "a": 1}}
    for source in (row, types.SimpleNamespace(**row)):
        card = schemas.OrderCard.model_validate(source)
        assert card.model_dump() == {"iccid": "***", "used_mb": None, "extra": {"a": 1}}
        assert (card.activation, card.pdf_url) == (None, None)


def test_an_error_of_pydantic_does_not_repeat_the_input() -> None:
    with pytest.raises(pydantic.ValidationError) as caught:
        schemas.CardDetailWithActivation.model_validate({"used_mb": "LPA:1$smdp.example$SECRET"})
    assert "SECRET" not in str(caught.value)


async def test_a_fastapi_app_has_the_schema_and_answers_without_codes(
    client: MioEsimClient, sandbox: Sandbox
) -> None:
    app = fastapi.FastAPI()

    @app.get("/cards/{iccid}", response_model=schemas.CardDetail)
    async def card(iccid: str) -> Any:
        return await client.cards.detail(iccid)

    @app.get("/orders/{order_num}", response_model=schemas.OrderWithActivation)
    async def order(order_num: str) -> Any:
        return await client.orders.get(order_num)

    @app.get("/packages/{sku_id}")
    async def packages(sku_id: int) -> list[schemas.Package]:
        found = (await client.catalogue.packages(sku_id)).packages
        return [schemas.Package.model_validate(one) for one in found]

    placed = await client.orders.place(sku_id=45, price_id=441, count=2)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as web:
        answer = await web.get(f"/cards/{sandbox.iccids[0]}")
        assert answer.json() == to_dict(await client.cards.detail(sandbox.iccids[0]))
        assert "LPA:" not in answer.text
        assert (await web.get(f"/orders/{placed.order_num}")).json() == to_dict(
            await client.orders.get(placed.order_num), activation=True
        )
        found: list[Package] = (await client.catalogue.packages(45)).packages
        assert (await web.get("/packages/45")).json() == to_dict(found)
        components = (await web.get("/openapi.json")).json()["components"]["schemas"]
    assert {"CardDetail", "OrderWithActivation", "OrderCardWithActivation", "Package"} <= {
        *components
    }
    assert [*components["CardDetail"]["properties"]] == [*to_dict(CardDetail())]
    assert "activation" in components["OrderCardWithActivation"]["properties"]


def test_without_pydantic_the_error_says_what_to_install() -> None:
    script = (
        "import sys; sys.modules['pydantic'] = None\n"
        "import mioesim_async; print(mioesim_async.json_schema(mioesim_async.CardStatus)['$ref'])\n"
        "import mioesim_async.schemas"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.stdout == "#/$defs/CardStatus\n"
    assert "pip install 'mioesim_async[pydantic]'" in done.stderr
