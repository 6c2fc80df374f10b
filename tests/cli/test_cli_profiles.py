"""Several accounts in profiles.toml."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Done, mioesim
from postgres_server import PostgresServer

from mioesim_async import profiles
from mioesim_async.errors import ConfigurationError
from mioesim_async.sandbox import Sandbox

SECRET = "s3cr3t-that-nobody-sees"


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with Sandbox(3) as sandbox:
        yield sandbox


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "profiles.toml"


def row_of(server: Sandbox, **changes: str | None) -> dict[str, str]:
    """The sandbox's account as a profile; None takes a key out."""
    account = server.credentials
    row = {
        "phone_number": account.phone_number,
        "password": account.password,
        "secret_key": account.secret_key,
        "base_url": server.url,
    }
    return {key: value for key, value in (row | changes).items() if value is not None}


def write(path: Path, *, first: str = "", mode: int = 0o600, **rows: dict[str, str]) -> None:
    # JSON's strings are TOML's.
    tables = [
        f"[profiles.{name}]\n" + "".join(f"{key} = {json.dumps(row[key])}\n" for key in row)
        for name, row in rows.items()
    ]
    path.write_text("\n".join([first, *tables]))
    path.chmod(mode)


def query(server: Sandbox, file: Path, *arguments: str, **more: str) -> Done:
    """Ask for a card with no account in the environment."""
    return mioesim("query", server.iccids[0], *arguments, MIOESIM_PROFILES=str(file), **more)


def test_a_profile_is_chosen_by_option_by_environment_or_by_default(
    server: Sandbox, file: Path
) -> None:
    write(
        file,
        first='default = "shop"',
        shop=row_of(server),
        wrong=row_of(server, phone_number="13800000000"),
    )
    assert query(server, file).status == 0
    assert query(server, file, MIOESIM_PROFILE="wrong").status == 3
    assert query(server, file, "--profile", "shop", MIOESIM_PROFILE="wrong").status == 0


def test_nothing_of_the_environments_account_gets_into_a_profile(
    server: Sandbox, file: Path
) -> None:
    write(file, shop=row_of(server))
    with Sandbox(3) as other:
        done = mioesim(
            "card", server.iccids[0], "--profile", "shop", sandbox=other, MIOESIM_PROFILES=str(file)
        )
        assert done.status == 0
        assert other.requests == []


def test_the_environments_account_wins_over_the_default(server: Sandbox, file: Path) -> None:
    write(file, first='default = "wrong"', wrong=row_of(server, phone_number="13800000000"))
    done = mioesim("card", server.iccids[0], sandbox=server, MIOESIM_PROFILES=str(file))
    assert done.status == 0


def test_secrets_come_from_a_variable_or_a_command(server: Sandbox, file: Path) -> None:
    account = server.credentials
    prints = f'{sys.executable} -c \'print(" " + "{account.secret_key}")\''
    write(
        file,
        shop=row_of(
            server, password=None, secret_key=None,
            password_env="SHOP_PASSWORD", secret_key_command=prints,
        ),
    )  # fmt: skip
    done = query(server, file, "--profile", "shop", SHOP_PASSWORD=account.password)
    assert (done.status, done.err) == (0, "")
    unset = query(server, file, "--profile", "shop")
    assert (unset.status, unset.err.count("\n")) == (2, 1)
    assert "password_env" in unset.err


def test_the_command_leaves_the_standard_input_to_mioesim(server: Sandbox, file: Path) -> None:
    reads = f"{sys.executable} -c 'import sys; print(sys.stdin.read() or \"%s\")'"
    command = reads % server.credentials.password
    write(file, shop=row_of(server, password=None, password_command=command))
    done = mioesim(
        "query", "--profile", "shop", typed=f"{server.iccids[0]}\n", MIOESIM_PROFILES=str(file)
    )
    assert done.status == 0


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import sys; print('{}'); print('{}', file=sys.stderr); sys.exit(4)", "status 4"),
        ("print('{}'); print('{}')", "one line"),
        ("", "one line"),
        ("import time; print('{}', flush=True); time.sleep(60)", "did not end within 0.5 seconds"),
    ],
)
def test_a_command_that_fails_is_an_error_without_its_output(
    file: Path, server: Sandbox, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    command = f'{sys.executable} -c "{script}"'.replace("{}", SECRET)
    write(file, shop=row_of(server, password=None, password_command=command))
    monkeypatch.setenv("MIOESIM_PROFILES", str(file))
    if "sleep" in script:
        monkeypatch.setattr(profiles, "COMMAND_SECONDS", 0.5)
    with pytest.raises(ConfigurationError) as raised:
        profiles.read_profile("shop")
    assert words in str(raised.value)
    assert "password_command of profile 'shop'" in str(raised.value)
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": None}, "has no password; it needs one of"),
        ({"password_env": SECRET}, "has password and password_env"),
        ({"password": None, "password_env": SECRET}, "variable that is not set"),
        ({"password": None, "password_command": f"/no/such/{SECRET}"}, "can't be run"),
        ({"password": None, "password_command": f"'{SECRET}"}, "quotes"),
        ({"password": None, "password_command": " "}, "names no command"),
        ({"pasword": SECRET, "colour": "x"}, "unknown keys: pasword, colour"),
        ({"phone_number": None}, "has no phone_number"),
        ({"phone_number": ""}, "phone_number must be text and not empty"),
        ({"read_method": SECRET}, "'read_method' must be in ('GET', 'POST')"),
    ],
)
def test_what_is_wrong_with_a_profile_is_named_without_its_values(
    file: Path,
    server: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str | None],
    words: str,
) -> None:
    write(file, shop=row_of(server, **changes))
    monkeypatch.setenv("MIOESIM_PROFILES", str(file))
    with pytest.raises(ConfigurationError) as raised:
        profiles.read_profile("shop")
    assert words in str(raised.value)
    assert str(file) in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("defalt = 'shop'", "unknown keys: defalt"),
        ("default = 1", "may have default"),
        ("profiles = 1", "may have default"),
        ("[profiles.shop", "is not TOML"),
        ("[profiles]\nshop = 1", "must be a table"),
    ],
)
def test_what_is_wrong_with_the_file_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    write(file, first=text)
    monkeypatch.setenv("MIOESIM_PROFILES", str(file))
    with pytest.raises(ConfigurationError, match=words):
        profiles.read_profile("shop")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_open_is_refused_with_the_command_that_helps(
    server: Sandbox, file: Path, mode: int
) -> None:
    write(file, shop=row_of(server), mode=mode)
    done = query(server, file, "--profile", "shop")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert f"chmod 600 {file}" in done.err


def test_without_an_account_both_ways_are_named(server: Sandbox, file: Path) -> None:
    done = query(server, file)
    assert (done.status, done.err.count("\n")) == (2, 1)
    for words in ("MIOESIM_PHONE_NUMBER", "MIOESIM_PASSWORD", "--profile", str(file)):
        assert words in done.err


def test_a_profile_that_is_none_is_answered_with_those_that_are(
    server: Sandbox, file: Path
) -> None:
    assert f"there is no file {file}" in query(server, file, "--profile", "shop").err
    write(file, shop=row_of(server), other=row_of(server))
    done = query(server, file, "--profile", "shpo")
    assert (done.status, "it has: shop, other" in done.err) == (2, True)


def test_the_file_is_in_the_users_config_directory(server: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "mioesim_async").mkdir()
    write(tmp_path / "mioesim_async" / "profiles.toml", shop=row_of(server, read_method="POST"))
    done = mioesim("card", server.iccids[0], "--profile", "shop", XDG_CONFIG_HOME=str(tmp_path))
    assert done.status == 0
    assert server.requests[-1].method == "POST"


def test_a_profile_names_its_order_journal(server: Sandbox, file: Path, tmp_path: Path) -> None:
    mine, elsewhere = tmp_path / "mine.db", tmp_path / "elsewhere.db"
    write(file, shop=row_of(server, order_journal=str(mine)), plain=row_of(server))

    def open_entries(profile: str) -> int:
        return mioesim(
            "orders", "open", "--profile", profile,
            MIOESIM_PROFILES=str(file), MIOESIM_ORDER_JOURNAL=str(elsewhere),
        ).status  # fmt: skip

    assert open_entries("shop") == 0
    assert (mine.exists(), elsewhere.exists()) == (True, False)
    assert open_entries("plain") == 0
    assert elsewhere.exists()


def test_a_journal_s_url_of_a_profile_is_a_secret_and_may_come_from_the_environment(
    server: Sandbox, file: Path
) -> None:
    url = f"postgresql://shop:{SECRET}@127.0.0.1:1/db"
    write(file, shop=row_of(server, order_journal_env="SHOP_JOURNAL"))
    done = mioesim(
        "order", "45", "441", "--yes", "--profile", "shop",
        MIOESIM_PROFILES=str(file), SHOP_JOURNAL=url,
    )  # fmt: skip
    assert done.status == 1
    assert "the order journal in the database 127.0.0.1:1/db can't be used now" in done.err
    assert "nothing was sent, try later" in done.err
    assert SECRET not in done.out + done.err
    write(file, shop=row_of(server, order_journal_env="SHOP_JOURNAL", order_journal="o.db"))
    done = mioesim("orders", "open", "--profile", "shop", MIOESIM_PROFILES=str(file))
    assert "has order_journal and order_journal_env; it needs one" in done.err


def test_the_command_keeps_its_orders_in_the_database_that_the_environment_names(
    server: Sandbox, postgres: PostgresServer
) -> None:
    more = {"MIOESIM_ORDER_JOURNAL": postgres.url}
    bought = len(server.orders)
    for _ in range(2):
        done = mioesim(
            "order", "45", "441", "--yes", "--reference", "twice", sandbox=server, **more
        )
        assert done.status == 0, done.err
    assert len(server.orders) == bought + 1
    assert "Nothing is open." in mioesim("orders", "open", sandbox=server, **more).out
