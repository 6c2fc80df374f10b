"""The client's settings, and endpoints that the SDK doesn't know."""

from __future__ import annotations

import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PostgresServer
from shopping import buy

from mioesim_async import (
    Credentials,
    MioEsimClient,
    OrderJournal,
    PostgresOrderJournal,
    Safety,
    errors,
)
from mioesim_async.sandbox import Fault, Sandbox

MADE_UP = Credentials("13800000000", "made up", "made-up-key")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("MIOESIM_PHONE_NUMBER", "13900000000")
    monkeypatch.setenv("MIOESIM_PASSWORD", "sandbox password")
    monkeypatch.setenv("MIOESIM_SECRET_KEY", "sandbox-secret-key-0123456789abcd")
    monkeypatch.delenv("MIOESIM_BASE_URL", raising=False)
    monkeypatch.delenv("MIOESIM_TOKEN_STORE", raising=False)
    monkeypatch.delenv("MIOESIM_ORDER_JOURNAL", raising=False)
    return monkeypatch


async def test_the_environment_configures_a_client(
    environment: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    environment.setenv("MIOESIM_BASE_URL", sandbox.url)
    async with MioEsimClient.from_env() as client:
        assert len(await client.cards.query(sandbox.iccids[:3])) == 3


async def test_overrides_win_over_the_environment(
    environment: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    environment.setenv("MIOESIM_BASE_URL", "https://unused.example")
    environment.delenv("MIOESIM_PASSWORD")
    async with MioEsimClient.from_env(
        credentials=sandbox.credentials, base_url=sandbox.url
    ) as client:
        await client.login()


def test_every_missing_variable_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("MIOESIM_PASSWORD")
    environment.setenv("MIOESIM_SECRET_KEY", "")
    with pytest.raises(errors.ConfigurationError, match="MIOESIM_PASSWORD, MIOESIM_SECRET_KEY"):
        MioEsimClient.from_env()


def test_a_token_store_that_can_t_be_had_is_not_ignored(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MIOESIM_TOKEN_STORE", "memcached://:hunter2@127.0.0.1")
    with pytest.raises(errors.ConfigurationError, match="MIOESIM_TOKEN_STORE") as caught:
        MioEsimClient.from_env()
    assert "hunter2" not in str(caught.value)


async def test_the_environment_names_the_order_journal_by_a_path_or_a_url(
    environment: pytest.MonkeyPatch, sandbox: Sandbox, postgres: PostgresServer, tmp_path: Path
) -> None:
    environment.setenv("MIOESIM_BASE_URL", sandbox.url)
    for place, kind in ((tmp_path / "o.db", OrderJournal), (postgres.url, PostgresOrderJournal)):
        environment.setenv("MIOESIM_ORDER_JOURNAL", str(place))
        async with MioEsimClient.from_env() as client:
            order = await buy(client, f"{kind.__name__}-{uuid.uuid4().hex}")
            entry = await client.orders.entry_of_order(order.order_num)
            assert entry is not None
            assert client.orders._purchaser.journalling is not None
            assert type(client.orders._purchaser.journalling.journal) is kind
    async with MioEsimClient.from_env(order_journal=None) as client:
        assert client.orders._purchaser.journalling is None


@pytest.mark.parametrize(
    "place", ["mysql://shop:hunter2@host", "postgresql:shop:hunter2@host", "postgresql://a:hunter2"]
)
def test_an_order_journal_that_can_t_be_had_is_not_ignored(
    environment: pytest.MonkeyPatch, place: str
) -> None:
    environment.setenv("MIOESIM_ORDER_JOURNAL", place)
    with pytest.raises(errors.ConfigurationError, match=r"(?i)order.journal") as caught:
        MioEsimClient.from_env()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    [
        "bpm.mioesim.com", "ftp://host", "https://", "https://user:hunter2@host", "https://h?x=1",
        "https://h#x", "https://h:port", "", None, "http://127.1:9", "https://2130706433",
        "https://1.2.3.256",
    ],
)  # fmt: skip
def test_a_base_url_that_can_t_work_is_refused_without_repeating_it(base_url: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="base_url") as caught:
        MioEsimClient(MADE_UP, base_url=base_url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [{"max_in_flight": 0}, {"max_in_flight": True}, {"max_in_flight": 2.0}],
)
def test_a_limit_that_can_t_work_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError, match="max_in_flight"):
        MioEsimClient(MADE_UP, **arguments)


def test_credentials_must_be_whole_and_are_not_repeated() -> None:
    with pytest.raises(errors.ConfigurationError, match="password must be text"):
        Credentials("13800000000", "", "made-up-key")
    with pytest.raises(errors.ConfigurationError, match="secret_key") as caught:
        Credentials("13800000000", "made up", b"made-up-key")  # type: ignore[arg-type]
    assert "made-up-key" not in str(caught.value)
    with pytest.raises(errors.ConfigurationError, match="Credentials"):
        MioEsimClient(("13800000000", "made up", "made-up-key"))  # type: ignore[arg-type]


async def test_a_trailing_slash_and_a_path_in_the_base_url_are_fine(sandbox: Sandbox) -> None:
    async with MioEsimClient(sandbox.credentials, base_url=sandbox.url + "/") as client:
        await client.login()
    assert sandbox.requests[0].endpoint == "login"


async def test_an_unknown_endpoint_is_called_signed_and_returned_as_parsed(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(
        Fault.replaced(b'{"code":"0","data":[{"price":12.10,"id":12345678901234567890123}]}'),
        "getSkus",
    )
    data = await client.call("/api_esim/getSkus", {"b": 1, "a": True, "none": None, "empty": ""})
    assert data == [{"price": Decimal("12.10"), "id": 12345678901234567890123}]
    params = sandbox.requests[-1].params
    assert {"a": "1", "b": "1"}.items() <= params.items()
    assert params.keys() == {"a", "b", "token", "sign"}


@pytest.mark.parametrize("params", [{"token": "x"}, {"sign": "x"}, {"a": object()}, {"": "x"}])
async def test_parameters_that_can_t_be_sent_are_refused_before_a_byte_is_sent(
    sandbox: Sandbox, client: MioEsimClient, params: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidRequest, match="parameter"):
        await client.call("/api_esim/getSkus", params)
    assert sandbox.requests == []


async def test_writes_go_by_post(sandbox: Sandbox, client: MioEsimClient) -> None:
    sandbox.faults.add(Fault.replaced(b'{"code":0}'), "handlerEsimPdf")
    assert await client.call("/api_esim/handlerEsimPdf", safety=Safety.WRITE) is None
    assert sandbox.requests[-1].method == "POST"
