"""The arguments of ``from_env`` and ``from_profile``, and clients of profiles.toml."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from command import mioesim

from mioesim_async import (
    ClientOptions,
    MemoryTokenStore,
    MioEsimClient,
    Order,
    OrderJournal,
    RetryPolicy,
    errors,
)
from mioesim_async.config import DEFAULT_BASE_URL
from mioesim_async.profiles import journal_path, profiles_path
from mioesim_async.sandbox import Sandbox
from mioesim_async.wire.account import account_key

PLAN: dict[str, Any] = {"sku_id": 45, "price_id": 441, "count": 1}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox in a thread of its own, which the command can use from any loop."""
    with Sandbox(3) as running:
        yield running


@pytest.fixture
def profiles(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the sandbox's account as ``shop``; the user's directories are temporary."""
    account = sandbox.credentials
    row = {
        "phone_number": account.phone_number,
        "password": account.password,
        "secret_key": account.secret_key,
        "base_url": sandbox.url,
        "account": "main",
    }
    path = tmp_path / "profiles.toml"
    path.write_text(
        "[profiles.shop]\n" + "".join(f"{key} = {json.dumps(row[key])}\n" for key in row)
    )
    path.chmod(0o600)
    monkeypatch.setenv("MIOESIM_PROFILES", str(path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return path


def test_the_typed_arguments_are_those_of_the_constructor() -> None:
    taken = inspect.signature(MioEsimClient).parameters
    assert [*ClientOptions.__annotations__] == [*taken]
    hints = get_type_hints(MioEsimClient.__init__)
    assert get_type_hints(ClientOptions) == {name: hints[name] for name in taken}


@pytest.mark.parametrize("call", ["from_env", "from_profile"])
def test_a_wrong_name_is_named_with_those_that_can_be_used(call: str, profiles: Path) -> None:
    first = ("shop",) * (call == "from_profile")
    with pytest.raises(errors.ConfigurationError) as caught:
        getattr(MioEsimClient, call)(*first, time_outs=None, retry=RetryPolicy())
    assert str(caught.value).startswith(f"{call} has no argument time_outs; it takes credentials, ")
    assert "timeouts" in str(caught.value)


def test_a_client_of_a_profile_shares_token_and_journal_with_the_command(
    sandbox: Sandbox, profiles: Path
) -> None:
    async def bought() -> Order:
        async with MioEsimClient.from_profile("shop") as client:
            assert client.account == account_key(sandbox.credentials.phone_number, "main")
            return await client.orders.place(**PLAN, other_order_id="shop-1")

    placed = asyncio.run(bought())
    command = ("order", "45", "441", "--reference", "shop-1", "--yes")
    done = mioesim(*command, "--json", "--profile", "shop", MIOESIM_PROFILES=str(profiles))
    assert (done.status, json.loads(done.out)["order_num"]) == (0, placed.order_num)
    asked = [request.endpoint for request in sandbox.requests]
    assert (asked.count("login"), asked.count("addEsimOrder")) == (1, 1)
    assert (profiles.parent / "state" / "mioesim_async" / "tokens.json").exists()


async def test_nothing_of_the_environments_account_gets_into_a_client_of_a_profile(
    sandbox: Sandbox, profiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PHONE_NUMBER", "PASSWORD", "SECRET_KEY", "ACCOUNT"):
        monkeypatch.setenv(f"MIOESIM_{name}", "other")
    monkeypatch.setenv("MIOESIM_BASE_URL", DEFAULT_BASE_URL)
    monkeypatch.setenv("MIOESIM_ORDER_JOURNAL", str(tmp_path / "orders.db"))
    async with MioEsimClient.from_profile("shop") as client:
        assert client.account == account_key(sandbox.credentials.phone_number, "main")
        assert len(await client.cards.query(sandbox.iccids[:1])) == 1
        await client.orders.place(**PLAN)
    assert (tmp_path / "orders.db").exists()
    assert not journal_path().exists()


async def test_arguments_override_the_profile(
    sandbox: Sandbox, profiles: Path, tmp_path: Path
) -> None:
    store, journal = MemoryTokenStore(), OrderJournal(tmp_path / "mine.db")
    async with MioEsimClient.from_profile(
        "shop", account="mine", token_store=store, order_journal=journal
    ) as client:
        assert client.account == account_key(sandbox.credentials.phone_number, "mine")
        await client.orders.place(**PLAN)
    assert await journal.accounts() == [account_key(sandbox.credentials.phone_number, "mine")]
    assert not (tmp_path / "state").exists()


@pytest.mark.usefixtures("profiles")
def test_a_profile_that_is_not_there_is_an_error_that_names_those_that_are() -> None:
    with pytest.raises(errors.ConfigurationError, match=r"no profile 'sohp' in .*it has: shop"):
        MioEsimClient.from_profile("sohp")


@pytest.mark.usefixtures("profiles")
def test_without_platformdirs_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    for variable in ("MIOESIM_TOKEN_STORE", "MIOESIM_ORDER_JOURNAL"):
        with pytest.raises(errors.ConfigurationError, match=f"set {variable} to a path"):
            MioEsimClient.from_profile("shop")
        monkeypatch.setenv(variable, "anywhere")
    MioEsimClient.from_profile("shop")
    monkeypatch.delenv("MIOESIM_PROFILES")
    with pytest.raises(errors.ConfigurationError, match="set MIOESIM_PROFILES to a path"):
        profiles_path()
