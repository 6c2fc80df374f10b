"""Hosts by plain HTTP, proxies and accounts of the command, and who may have written its file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Done, mioesim
from test_cli_profiles import SECRET, query, row_of, write

from mioesim_async import OrderJournal, profiles
from mioesim_async.errors import ConfigurationError
from mioesim_async.profiles import journal_path
from mioesim_async.sandbox import Sandbox

ELSEWHERE = "http://reseller.example.com"


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(3) as sandbox:
        yield sandbox


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "profiles.toml"


def card(server: Sandbox, *options: str, **more: str) -> Done:
    """Ask for a card of an account whose host is reached by plain HTTP."""
    more = {"MIOESIM_BASE_URL": ELSEWHERE} | more
    return mioesim("card", server.iccids[0], *options, sandbox=server, **more)


def test_plain_http_to_another_machine_is_refused_with_the_option_that_allows_it(
    server: Sandbox,
) -> None:
    done = card(server, "--proxy", server.url)

    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)
    assert "--allow-insecure-http" in done.err
    assert server.requests == []


@pytest.mark.parametrize("way", ["options", "environment", "both"])
def test_a_proxy_and_plain_http_come_from_options_or_the_environment(
    server: Sandbox, way: str
) -> None:
    nowhere = "http://127.0.0.1:1"
    options = ["--allow-insecure-http", "--proxy", server.url] * (way != "environment")
    more = {"MIOESIM_ALLOW_INSECURE_HTTP": "1", "MIOESIM_PROXY": server.url}
    if way == "both":
        more = {"MIOESIM_PROXY": nowhere}
    done = card(server, *options, **({} if way == "options" else more))

    assert (done.status, done.err) == (0, "")
    assert server.requests


def test_a_proxy_s_password_is_not_shown_where_it_can_t_be_reached(server: Sandbox) -> None:
    proxy = f"http://somebody:{SECRET}@127.0.0.1:1"
    done = card(server, "--allow-insecure-http", "--proxy", proxy)

    assert done.status == 5
    assert "can't connect to the proxy 127.0.0.1:1: " in done.err
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize("proxy", ["notaurl", "socks5://127.0.0.1:1", f"ftp://u:{SECRET}@h"])
def test_a_proxy_that_is_none_is_one_line_and_2(server: Sandbox, proxy: str) -> None:
    done = card(server, "--allow-insecure-http", "--proxy", proxy)

    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "proxy" in done.err
    assert SECRET not in done.err


def test_a_profile_has_its_proxy_its_plain_http_and_its_account(
    server: Sandbox, file: Path
) -> None:
    row = row_of(server, base_url=ELSEWHERE, proxy=server.url, account="tokyo")
    write(file, shop=row)
    refused = query(server, file, "--profile", "shop")
    assert refused.status == 2
    assert "--allow-insecure-http" in refused.err

    file.write_text(file.read_text() + "allow_insecure_http = true\n")
    more = {"MIOESIM_PROFILES": str(file), "MIOESIM_ACCOUNT": "osaka", "MIOESIM_PROFILE": "shop"}
    done = mioesim("order", "45", "441", "--yes", **more)
    assert done.status == 0, done.err
    (account,) = asyncio.run(OrderJournal(journal_path()).accounts())
    assert account.endswith("@tokyo")


def test_a_proxy_of_the_environment_wins_over_the_profile_s(server: Sandbox, file: Path) -> None:
    write(file, shop=row_of(server, proxy="http://127.0.0.1:1"))
    assert query(server, file, "--profile", "shop").status == 5
    assert query(server, file, "--profile", "shop", MIOESIM_PROXY=server.url).status == 0


def test_an_account_may_be_named_in_the_environment(server: Sandbox) -> None:
    done = mioesim("order", "45", "441", "--yes", sandbox=server, MIOESIM_ACCOUNT="osaka")
    assert done.status == 0
    (account,) = asyncio.run(OrderJournal(journal_path()).accounts())
    assert account.endswith("@osaka")


def test_another_name_of_the_host_is_refused_in_the_words_of_the_command(server: Sandbox) -> None:
    order = ["order", "45", "441", "--yes", "--proxy", server.url, "--allow-insecure-http"]
    first = mioesim(*order, sandbox=server, MIOESIM_BASE_URL=ELSEWHERE)
    assert first.status == 0
    server.requests.clear()
    second = mioesim(*order, sandbox=server, MIOESIM_BASE_URL="http://egress.example.com")

    assert second.status == 2
    assert "MIOESIM_ACCOUNT" in second.err
    assert "reseller.example.com" in second.err
    assert "account=" not in second.err
    assert not [seen for seen in server.requests if seen.endpoint == "addEsimOrder"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('allow_insecure_http = "yes"', "allow_insecure_http must be true or false"),
        ("allow_insecure_http = 1", "allow_insecure_http must be true or false"),
        ('proxy = ""', "proxy must be text and not empty"),
        ("account = 1", "account must be text and not empty"),
    ],
)
def test_what_is_wrong_with_these_keys_is_named(
    server: Sandbox, file: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    write(file, shop=row_of(server))
    file.write_text(f"{file.read_text()}{line}\n")
    monkeypatch.setenv("MIOESIM_PROFILES", str(file))
    with pytest.raises(ConfigurationError, match=words):
        profiles.read_profile("shop")


def test_a_file_of_another_user_is_refused_with_the_command_that_helps(
    server: Sandbox, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(file, shop=row_of(server))
    owner = os.getuid()
    # Nobody but root may give a file away, so this test becomes another user instead.
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    monkeypatch.setattr(profiles, "ROOT", owner + 2)
    done = query(server, file, "--profile", "shop")

    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "belongs to another user" in done.err
    assert f"chown $(id -u) {file}" in done.err
    assert server.requests == []

    monkeypatch.setattr(profiles, "ROOT", owner)
    assert query(server, file, "--profile", "shop").status == 0
