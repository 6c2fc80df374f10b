"""What README and docs show works as shown."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from waiting import SECONDS
from yarl import URL

from mioesim_async import (
    ActivationCode,
    MioEsimClient,
    Order,
    OrderCard,
    SessionManager,
    customer_html,
    errors,
    to_dict,
)
from mioesim_async.cli import running
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.wire import endpoints

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WIRE = (ROOT / "docs" / "wire.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def names_of(marker: str) -> dict[str, Any]:
    """Run the one example that holds a marker, and return what it defines."""
    (block,) = [block for block in BLOCKS if marker in block]
    names: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), names)
    return names


def test_the_eight_line_example_prints_the_card_and_has_eight_lines() -> None:
    with Sandbox() as sandbox:
        account = sandbox.credentials
        done = subprocess.run(
            [sys.executable, "-c", BLOCKS[0]],
            env={
                "MIOESIM_PHONE_NUMBER": account.phone_number,
                "MIOESIM_PASSWORD": account.password,
                "MIOESIM_SECRET_KEY": account.secret_key,
                "MIOESIM_BASE_URL": sandbox.url,
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=SECONDS,
        )
    assert "8985000000000000000 CardStatus(" in done.stdout
    assert len([line for line in BLOCKS[0].splitlines() if line]) == 8


async def test_the_example_of_an_unknown_endpoint_works(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    sandbox.faults.add(Fault.replaced(b'{"code":0,"data":[{"display":"Japan"}]}'), "getSkus")
    assert await names_of("sku_names")["sku_names"](client) == ["Japan"]


async def test_the_delivery_example_writes_the_page(
    sandbox: Sandbox, client: MioEsimClient, tmp_path: Path
) -> None:
    await names_of("deliver(")["deliver"](client, sandbox.iccids[0], tmp_path / "card.html")
    card = await client.cards.detail(sandbox.iccids[0])
    assert (tmp_path / "card.html").read_text(encoding="utf-8") == customer_html(card)


async def test_the_json_example_shows_codes_to_the_customer_only(client: MioEsimClient) -> None:
    placed = await client.orders.place(sku_id=45, price_id=441, count=1)
    order_as_json = names_of("order_as_json(")["order_as_json"]
    for for_its_customer in (True, False):
        told = await order_as_json(client, placed.order_num, for_its_customer=for_its_customer)
        assert ("LPA:" in str(told)) is for_its_customer
        assert told["order_num"] == placed.order_num


async def test_the_fastapi_example_answers_without_codes(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    transport = httpx.ASGITransport(names_of("shop_app")["shop_app"](client))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as web:
        told = (await web.get(f"/cards/{sandbox.iccids[0]}")).json()
    assert told == to_dict(await client.cards.detail(sandbox.iccids[0]))


def test_the_example_of_a_shops_page_has_its_brand_plan_and_language() -> None:
    card = OrderCard("8985203104000042611", ActivationCode.parse("LPA:1$a.example$MADE-UP"))
    made = names_of("page_and_mail")["page_and_mail"]
    for shown in made(Order(cards=[card]), "Nippon 3", "de-CH"):
        assert all(told in shown for told in ("Sunny Travel", "Nippon 3", "Ihre Sunny-eSIM"))
    assert all("Wi-Fi first" in shown for shown in made(Order(cards=[card]), None, "en-AU"))


async def test_the_error_example_catches_what_it_says(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    used_mb = names_of("used_mb(")["used_mb"]
    assert await used_mb(client, sandbox.iccids[0]) >= 0
    assert await used_mb(client, "8999000000000000001") is None
    for fault, words in ((Fault.refuse(77), "code 77"), (Fault.http(404), "try again later")):
        sandbox.faults.add(fault, "getESIMDetail")
        with pytest.raises(SystemExit, match=words):
            await used_mb(client, sandbox.iccids[0])
    with pytest.raises(SystemExit, match="check the input"):
        await used_mb(client, "8.98E+18")


async def test_the_shared_store_example_logs_in_once(sandbox: Sandbox) -> None:
    clients = names_of("two_clients")["two_clients"](sandbox.credentials, base_url=sandbox.url)
    for client in clients:
        await client.cards.query(sandbox.iccids[0])
        await client.aclose()
    assert sandbox.logins == 1


async def test_the_shared_session_example_works(sandbox: Sandbox) -> None:
    two_accounts = names_of("two_accounts")["two_accounts"]
    account = sandbox.credentials
    cards = await two_accounts(account, account, sandbox.iccids[:3], base_url=sandbox.url)
    assert [len(found) for found in cards] == [3, 3]


async def test_the_recipes_keep_secrets_out_of_raw_urls(sandbox: Sandbox) -> None:
    import aiohttp

    seen: list[URL] = []

    async def started(_: Any, __: Any, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(params.url)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(started)
    quiet_client = names_of("quiet_client")["quiet_client"]
    async with SessionManager(trace_configs=[trace]) as manager:
        options = {"base_url": sandbox.url, "session_manager": manager}
        async with quiet_client(sandbox.credentials, **options) as client:
            await client.cards.query(sandbox.iccids[0])
        assert not any(url.query_string for url in seen)
        async with MioEsimClient(sandbox.credentials, **options) as client:  # type: ignore[arg-type]
            await client.cards.query(sandbox.iccids[0])
    assert "token=" in seen[-1].query_string
    assert "token" not in names_of("url_filter")["url_filter"](seen[-1])


def test_the_pytest_example_passes_as_a_test(pytester: pytest.Pytester) -> None:
    (block,) = [block for block in BLOCKS if "mioesim_sandbox" in block]
    pytester.makepyfile(block)
    pytester.makeini("[pytest]\nasyncio_mode = auto\n")
    pytester.runpytest_subprocess(timeout=SECONDS).assert_outcomes(passed=1)


def test_the_example_of_both_sandboxes_passes_with_each(pytester: pytest.Pytester) -> None:
    (block,) = [block for block in BLOCKS if "any_sandbox" in block]
    pytester.makepyfile(block)
    pytester.makeini("[pytest]\nasyncio_mode = auto\n")
    pytester.runpytest_subprocess(timeout=SECONDS).assert_outcomes(passed=2)


def test_every_python_example_is_run_by_a_test() -> None:
    markers = (
        "from_env()", "sku_names", "deliver(", "used_mb(", "two_clients", "two_accounts",
        "quiet_client", "url_filter", "mioesim_sandbox", "plans_on_sale", "def sell(",
        "careful_client", "shop_app", "order_as_json(", "morning_round", "orders_between",
        "restock", "any_sandbox", "def offer(", "page_and_mail",
    )  # fmt: skip
    assert all(any(marker in block for marker in markers) for block in BLOCKS)
    assert len(BLOCKS) == len(markers)


def test_the_commands_shown_are_commands_that_parse() -> None:
    shown = [line for block in SHELL[2:] for line in block.splitlines() if "mioesim " in line]
    assert len(shown) == 10
    for line in shown:
        command = line.partition("| ")[2] or line
        words = shlex.split(command.partition(" > ")[0])
        assert words[0] == "mioesim"
        with patch.object(running, "_in_a_loop", return_value=77) as ran:
            assert running.run(words[1:]) == 77, line
        assert ran.called


def test_the_main_job_is_one_line_that_sets_itself_up() -> None:
    first, tests = SHELL[:2]
    for command in (first, tests):
        assert command.strip().count("\n") == 0
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")
    words = shlex.split(first.rpartition("&& ")[2])
    assert words[0] == ".venv/bin/mioesim"
    done = subprocess.run(
        [sys.executable, "-m", "mioesim_async.cli", *words[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0
    assert "1,000" in done.stdout


def test_the_codes_in_the_docs_are_the_codes_in_the_table() -> None:
    for code, cls in endpoints.CODES.items():
        (line,) = re.findall(rf"^\| {code} \|.*$", WIRE, re.MULTILINE)
        _, _, at_login, elsewhere, purchase, _ = line.split("|")
        expected = "TokenContention" if cls is errors.TokenExpired else cls.__name__
        assert f"`{expected}`" in elsewhere
        login = endpoints.LOGIN_CODES.get(code)
        assert (f"`{login.__name__}`" if login else "") == at_login.strip()
        assert ("not executed" in purchase) == (code in endpoints.REFUSED_FOR_MONEY)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    shown = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert shown | {"MioEsimError"} == set(errors.__all__)


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = re.findall(r"\b((?:[a-z_]+/)*[a-z_]+\.py|(?:[a-z_]+/)+)(?=[\s`,;:)])", text)
    drawn += [f"{path}.py" for path in re.findall(r"[│▶] +((?:[a-z_]+/)+[a-z_]+)\b", text)]
    assert len(drawn) > 80
    package = ROOT / "mioesim_async"
    places = [ROOT, package, *package.iterdir()]
    assert [name for name in drawn if not any((place / name).exists() for place in places)] == []
