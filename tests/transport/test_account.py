"""One account is one account, however its URL is spelled; and nothing goes in clear unasked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from shopping import buy
from waiting import SECONDS

from mioesim_async import (
    Credentials,
    JournalEntry,
    MemoryTokenStore,
    MioEsimClient,
    OrderJournal,
    SessionManager,
    errors,
)
from mioesim_async.journal.entry import EntryState
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.wire.account import account_key, label_of_host, other_labels

LABELS = {
    "https://bpm.mioesim.com": "bpm.mioesim.com",
    "http://BPM.mioesim.com:80/a/path/": "bpm.mioesim.com",
    "https://bpm.mioesim.com.:443": "bpm.mioesim.com",
    "https://bpm.mioesim.com:8443": "bpm.mioesim.com:8443",
    "http://bpm.mioesim.com:443": "bpm.mioesim.com:443",
    "https://b\u00fccher.example": "xn--bcher-kva.example",
    "https://[2001:DB8:0::1]:8443": "[2001:db8::1]:8443",
    "http://127.0.0.1:8080": "localhost:8080",
    "http://localhost:8080/x": "localhost:8080",
    "http://LocalHost.:8080": "localhost:8080",
    "http://[::1]:8080": "localhost:8080",
    "http://[::ffff:127.0.0.1]:8080": "localhost:8080",
    "http://127.8.9.10:8080": "localhost:8080",
    "http://0.0.0.0:8080": "localhost:8080",
    "http://shop.localhost:8080": "localhost:8080",
}


@pytest.mark.parametrize("base_url", LABELS)
def test_a_host_and_port_are_one_label_however_they_are_spelled(base_url: str) -> None:
    assert label_of_host(base_url) == LABELS[base_url]


def at(sandbox: Sandbox, host: str, **arguments: Any) -> MioEsimClient:
    """Return a client that reaches the sandbox by another host's name, through a proxy."""
    arguments.setdefault("clock", sandbox.clock)
    return MioEsimClient(
        sandbox.credentials,
        base_url=f"http://{host}",
        allow_insecure_http=True,
        proxy=sandbox.url,
        **arguments,
    )


async def test_a_reference_is_bought_once_by_whatever_name_of_this_machine(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    numbers = set()
    for url in (sandbox.url, f"{sandbox.url}/", sandbox.url.replace("127.0.0.1", "localhost")):
        async with MioEsimClient(
            sandbox.credentials, base_url=url, order_journal=journal, clock=sandbox.clock
        ) as client:
            numbers.add((await buy(client, "shop-1")).order_num)
    assert numbers == {order.order_num for order in sandbox.orders}
    assert len(sandbox.orders) == 1


async def test_another_host_s_name_is_refused_until_the_user_says_which_account_it_is(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with at(sandbox, "vendor.example", order_journal=journal) as client:
        order = await buy(client, "shop-1")
    async with at(sandbox, "egress.example:81", order_journal=journal) as client:
        for reference in ("shop-1", "shop-2"):
            with pytest.raises(errors.ConfigurationError) as caught:
                await buy(client, reference)
            assert "account='vendor.example' if it is the same account" in str(caught.value)
            assert "account='egress.example:81' if it is another" in str(caught.value)
            assert sandbox.credentials.phone_number not in str(caught.value)
            expected = None if reference == "shop-1" else False
            assert caught.value.was_placed is expected, "the other account has an order of it"
        assert len(await client.cards.query(sandbox.iccids[:3])) == 3, "reads go on"
    assert len(sandbox.orders) == 1

    same = at(sandbox, "egress.example:81", order_journal=journal, account="vendor.example")
    async with same as client:
        assert (await buy(client, "shop-1")).order_num == order.order_num
    another = at(sandbox, "egress.example:81", order_journal=journal, account="egress.example:81")
    async with another as client:
        assert (await buy(client, "shop-1")).order_num != order.order_num
    async with at(sandbox, "egress.example:81", order_journal=journal) as client:
        await buy(client, "shop-3")  # The journal knows this label by now.
    assert len(sandbox.orders) == 3
    with pytest.raises(errors.ConfigurationError, match=r"'egress\.example:81' and 'vendor"):
        async with at(sandbox, "third.example", order_journal=journal) as client:
            await buy(client, "shop-1")


async def test_scheme_and_path_make_no_other_account(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with at(sandbox, "vendor.example:443", order_journal=journal) as client:
        first = client.account
    async with MioEsimClient(
        sandbox.credentials, base_url="https://Vendor.example:443/x"
    ) as client:
        assert client.account == account_key(sandbox.credentials.phone_number, "vendor.example")
    assert first == account_key(sandbox.credentials.phone_number, "vendor.example:443")


async def test_a_sandbox_that_was_tried_first_does_not_stand_in_the_way(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with sandbox.client(order_journal=journal) as client:
        await buy(client, "shop-1")
    async with at(sandbox, "vendor.example", order_journal=journal) as client:
        await buy(client, "shop-1")
    async with sandbox.client(order_journal=journal) as client:
        await buy(client, "shop-2")  # Its label is known.
    assert len(sandbox.orders) == 3


async def test_loopback_is_refused_where_the_journal_knows_another_host(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with at(sandbox, "vendor.example", order_journal=journal) as client:
        await buy(client, "shop-1")
    async with sandbox.client(order_journal=journal) as client:
        with pytest.raises(errors.ConfigurationError, match=r"'vendor\.example'"):
            await buy(client, "shop-1")
    assert len(sandbox.orders) == 1


async def test_a_label_that_nothing_was_sent_for_is_not_known(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    sandbox.clock._skip = False
    async with at(sandbox, "vendor.example", order_journal=journal) as client:
        await client.login()
        journal_waits = asyncio.create_task(buy(client, "shop-1"))
        await asyncio.sleep(0)
        journal_waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await journal_waits
    assert await journal.accounts() == []
    async with at(sandbox, "egress.example", order_journal=journal) as client:
        await buy(client, "shop-1")


async def test_two_names_that_begin_at_once_don_t_buy_twice(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    names = [f"{number}.example" for number in range(4)]
    clients = [at(sandbox, name, order_journal=journal) for name in names]
    for client in clients:
        await client.login()
    found = await asyncio.gather(
        *(buy(client, "shop-1") for client in clients), return_exceptions=True
    )
    refused = [one for one in found if isinstance(one, errors.ConfigurationError)]
    assert len(refused) >= len(names) - 1
    assert len(sandbox.orders) == len(names) - len(refused)
    for client in clients:
        await client.aclose()
    states = [await journal.find(client.account, "shop-1") for client in clients]
    assert sum(entry is not None and entry.state is EntryState.PLACED for entry in states) == len(
        sandbox.orders
    )


async def test_a_journal_of_the_user_s_that_lists_no_accounts_still_works(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    class Six:
        """The six methods that a journal must have."""

        begin, settle, find = journal.begin, journal.settle, journal.find
        find_order, open_entries, prune = journal.find_order, journal.open_entries, journal.prune

    async with sandbox.client(order_journal=Six()) as client:
        order = await buy(client, "shop-1")
        assert (await buy(client, "shop-1")).order_num == order.order_num


async def test_a_token_store_keeps_accounts_apart_by_the_label(sandbox: Sandbox) -> None:
    store = MemoryTokenStore()
    async with at(sandbox, "vendor.example", token_store=store) as one:
        await one.login()
        for account, logins in (("vendor.example", 1), ("another", 2)):
            async with at(sandbox, "b.example", token_store=store, account=account) as two:
                await two.cards.query(sandbox.iccids[0])
            assert sandbox.logins == logins


@pytest.mark.parametrize("account", ["", "  ", 7, "a\nb", "x" * 201])
def test_an_account_that_is_no_name_is_refused(account: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="account must"):
        MioEsimClient(Credentials("1", "p", "k"), account=account)


def test_other_labels_are_those_of_the_phone_number_alone() -> None:
    keys = [account_key(phone, label) for phone in "12" for label in ("a", "b", "localhost:80")]
    assert other_labels(keys, account_key("1", "a")) == ["b"]
    assert other_labels(keys, account_key("1", "c")) == ["a", "b"]
    assert other_labels(keys, account_key("3", "a")) == []


# Plain http.


@pytest.mark.parametrize("host", ["bpm.mioesim.com", "10.0.0.1", "localhost.example", "[2001::1]"])
def test_plain_http_to_another_machine_is_refused_unless_it_is_allowed(host: str) -> None:
    account = Credentials("1", "p", "k")
    with pytest.raises(errors.ConfigurationError, match="allow_insecure_http=True"):
        MioEsimClient(account, base_url=f"http://{host}")
    MioEsimClient(account, base_url=f"http://{host}", allow_insecure_http=True)
    MioEsimClient(account, base_url=f"https://{host}")


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:80", "shop.localhost"])
def test_plain_http_to_this_machine_is_fine(host: str) -> None:
    MioEsimClient(Credentials("1", "p", "k"), base_url=f"http://{host}")


def test_the_environment_names_the_account_and_allows_plain_http(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "MIOESIM_PHONE_NUMBER": "1",
        "MIOESIM_PASSWORD": "p",
        "MIOESIM_SECRET_KEY": "k",
        "MIOESIM_BASE_URL": "http://vendor.example",
        "MIOESIM_ACCOUNT": "main",
    }.items():
        monkeypatch.setenv(name, value)
    for value in ("0", "no", "", "2"):
        monkeypatch.setenv("MIOESIM_ALLOW_INSECURE_HTTP", value)
        with pytest.raises(errors.ConfigurationError):
            MioEsimClient.from_env()
    monkeypatch.setenv("MIOESIM_ALLOW_INSECURE_HTTP", "1")
    assert MioEsimClient.from_env().account == account_key("1", "main")
    assert MioEsimClient.from_env(account="other").account == account_key("1", "other")


async def test_the_environment_names_a_proxy_for_a_client_with_a_session_of_its_own(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIOESIM_PROXY", sandbox.url)
    arguments: dict[str, Any] = {
        "credentials": sandbox.credentials,
        "base_url": "http://vendor.example",
        "allow_insecure_http": True,
    }
    async with MioEsimClient.from_env(**arguments) as client:
        assert len(await client.cards.query(sandbox.iccids[:3])) == 3
    assert client._manager.closed
    async with SessionManager() as manager:
        client = MioEsimClient.from_env(**arguments, session_manager=manager)
        assert manager._proxy is None
    with pytest.raises(errors.ConfigurationError, match="on the session manager"):
        MioEsimClient(sandbox.credentials, session_manager=manager, proxy=sandbox.url)


async def test_an_intent_that_waits_for_its_check_does_not_make_its_label_known(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    ours, theirs = OrderJournal(tmp_path / "orders.db"), OrderJournal(tmp_path / "orders.db")
    asked, may_begin, begun, may_check = (asyncio.Event() for _ in range(4))
    begin, accounts = ours.begin, ours.accounts

    async def held_begin(entry: JournalEntry) -> JournalEntry | None:
        if not asked.is_set():
            asked.set()
            await may_begin.wait()
        return await begin(entry)

    async def held_accounts() -> list[str]:
        if may_begin.is_set() and not begun.is_set():
            begun.set()
            await may_check.wait()
        return await accounts()

    ours.begin, ours.accounts = held_begin, held_accounts  # type: ignore[method-assign]
    async with (
        asyncio.timeout(SECONDS),
        at(sandbox, "vendor.example", order_journal=ours) as client,
        at(sandbox, "egress.example", order_journal=theirs) as other,
    ):
        first = asyncio.create_task(buy(client, "shop-1"))
        await asked.wait()
        await buy(other, "shop-2")
        may_begin.set()
        await begun.wait()
        second = asyncio.create_task(buy(client, "shop-2"))
        await asyncio.wait([second])
        may_check.set()
        for one in (first, second):
            with pytest.raises(errors.ConfigurationError, match=r"'egress\.example'"):
                await one
    assert [order.other_order_id for order in sandbox.orders] == ["shop-2"]


async def test_an_intent_that_was_never_sent_does_not_make_its_label_known(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    sandbox.clock._skip = False
    async with (
        asyncio.timeout(SECONDS),
        at(sandbox, "vendor.example", order_journal=journal) as client,
        at(sandbox, "egress.example", order_journal=journal) as other,
    ):
        sandbox.faults.add(Fault.refuse(-1), "login")
        with pytest.raises(errors.MioEsimError) as caught:
            await buy(client, "shop-1")
        assert caught.value.was_placed is False
        await buy(other, "shop-2")
        with pytest.raises(errors.ConfigurationError, match=r"'egress\.example'"):
            await buy(client, "shop-2")
    assert len(sandbox.orders) == 1


async def test_a_fault_of_the_vendor_s_does_not_make_a_label_unknown(
    sandbox: Sandbox, journal: OrderJournal
) -> None:
    async with at(sandbox, "vendor.example", order_journal=journal) as client:
        sandbox.faults.add(Fault.refuse(4), "addEsimOrder")
        with pytest.raises(errors.OrderStateError):
            await buy(client, "shop-1")
    with pytest.raises(errors.ConfigurationError):
        async with at(sandbox, "egress.example", order_journal=journal) as client:
            await buy(client, "shop-1")
