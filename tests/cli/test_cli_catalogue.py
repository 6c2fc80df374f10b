"""``mioesim skus``, ``packages`` and ``partners``, and the options of ``mioesim sandbox``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import interrupted, mioesim, started
from terminal import at_terminal
from waiting import SECONDS, read_until

from mioesim_async.sandbox import Fault, Sandbox


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(5) as sandbox:
        yield sandbox


@pytest.fixture
def server(running: Sandbox) -> Sandbox:
    running.faults.clear()
    return running


def cells(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_skus_are_listed_and_found_by_name_country_and_id(server: Sandbox) -> None:
    listed = cells(mioesim("skus", sandbox=server).out)
    assert listed[0] == ["SKU", "Name", "Country", "Code"]
    assert len(listed) == 15
    assert ["201", "Europe", "(3", "countries)", "region", "99001"] in listed
    for text in ("jap", "JP", "392"):
        found = mioesim("skus", text, "--json", sandbox=server)
        assert [sku["sku_id"] for sku in json.loads(found.out)] == [45, 46], text
    (one,) = json.loads(mioesim("skus", "201", "--json", sandbox=server).out)
    assert (one["is_region"], one["country"]) == (True, None)


def test_what_matches_nothing_is_an_empty_list_that_says_so(server: Sandbox) -> None:
    none = mioesim("skus", "Atlantis", sandbox=server)
    assert (none.status, none.out) == (0, "")
    assert none.err == "mioesim: no SKU matches 'Atlantis'\n"
    assert json.loads(mioesim("skus", "Atlantis", "--json", sandbox=server).out) == []


def test_skus_come_by_group(server: Sandbox) -> None:
    rows = cells(mioesim("skus", "--groups", "europe", sandbox=server).out)
    assert {row[0] for row in rows[1:]} == {"Europe", "Common"}
    found = json.loads(mioesim("skus", "serbia", "--groups", "--json", sandbox=server).out)
    assert [(row["group"], row["sku_id"]) for row in found] == [("Europe", 88)]


@pytest.mark.parametrize("columns", ["80", "200"])
def test_packages_fit_the_terminal_whole(server: Sandbox, columns: str) -> None:
    done = mioesim("packages", 45, sandbox=server, COLUMNS=columns)
    assert done.status == 0
    assert max(map(len, done.out.splitlines())) <= 80
    title, *rows = cells(done.out)
    assert " ".join(title) == "Japan (SKU 45), works in JP"
    assert rows[1:] == [
        ["441", "1", "GB", "7", "12.1", "plan", "yes", "392-0-7-1-G"],
        ["442", "500", "MB", "3-30", "1.15", "day", "0.5", "yes", "needed", "392-0-?-500-M-D"],
        ["443", "3", "GB", "15", "5.35", "plan", "no", "392-0-15-3-G"],
    ]


def test_ids_and_numbers_stay_whole_however_narrow_the_terminal_is(server: Sandbox) -> None:
    done = mioesim("packages", 45, sandbox=server, COLUMNS="20")
    assert "392-0-?-500-M-D" in done.out
    assert ["441", "1", "GB", "7", "12.1", "plan", "yes", "392-0-7-1-G"] in cells(done.out)


def test_the_vendors_words_are_no_markup_and_no_control_characters(server: Sandbox) -> None:
    server.faults.add(
        Fault.replaced(b'{"code":0,"data":[{"skuid":1,"display":"[red]x\\u001b[2J\\u009b"}]}'),
        "getSkus",
        times=2,
    )
    assert "[red]x\ufffd[2J\ufffd" in mioesim("skus", sandbox=server).out
    done = mioesim("skus", "--json", sandbox=server)
    assert json.loads(done.out)[0]["display"] == "[red]x\x1b[2J\x9b"
    assert "\x1b" not in done.out
    assert "\x9b" not in done.out


def test_packages_as_json_have_money_as_text_and_no_extra(server: Sandbox) -> None:
    found = json.loads(mioesim("packages", 45, "--json", sandbox=server).out)
    assert [package["price"] for package in found["packages"]] == ["12.1", "1.15", "5.35"]
    assert "extra" not in found
    assert all("extra" not in package for package in found["packages"])


def test_a_sku_without_packages_and_one_that_is_none(server: Sandbox) -> None:
    empty, none = (mioesim("packages", sku, sandbox=server) for sku in (12, 99999))
    assert (empty.status, empty.err) == (0, "mioesim: SKU 12 has no packages\n")
    assert none.status == 1
    assert none.err.count("\n") == 1
    assert "code 3" in none.err


@pytest.mark.parametrize("arguments", [(), ("45", "--all")])
def test_packages_are_of_one_sku_or_of_all(server: Sandbox, arguments: tuple[str, ...]) -> None:
    done = mioesim("packages", *arguments, sandbox=server)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "--all" in done.err


def test_all_packages_are_read_with_progress_and_called_complete(server: Sandbox) -> None:
    done = at_terminal("packages", "--all", sandbox=server)
    assert done.status == 0
    assert "Reading packages" in done.out
    assert "14 of 14 SKUs, 26 packages" in done.out
    assert done.out.rstrip().endswith(": complete")


def test_an_incomplete_crawl_says_so_and_exits_with_1(server: Sandbox) -> None:
    server.faults.add(Fault.refuse(77), "getPackages", times=1)
    done = mioesim("packages", "--all", "--json", sandbox=server)
    assert done.status == 1
    found = json.loads(done.out)
    assert (found["stats"]["is_complete"], found["stats"]["failed"]) == (False, 1)
    assert len([sku for sku in found["skus"] if sku["error"]]) == 1
    assert "code 77" in done.err
    server.faults.add(Fault.refuse(77), "getPackages", times=1)
    done = mioesim("packages", "--all", sandbox=server)
    assert (done.status, done.out.rstrip().endswith("NOT COMPLETE")) == (1, True)


def test_partners_their_skus_and_their_packages(server: Sandbox) -> None:
    assert ["11", "Sandbox", "SIM"] in cells(mioesim("partners", sandbox=server).out)
    skus = json.loads(mioesim("partners", "skus", 11, "--json", sandbox=server).out)
    assert [sku["sku_id"] for sku in skus] == [45, 71, 131]
    assert "764" in mioesim("partners", "skus", 11, sandbox=server).out
    assert "392-0-15-3-G" in mioesim("partners", "packages", 11, 45, sandbox=server).out
    assert mioesim("partners", "packages", 11, 102, sandbox=server).status == 1


def test_the_sandbox_takes_stock_and_forms_and_refuses_what_is_none() -> None:
    with started("sandbox", "--stock", "45/441=0", "--order-form", "number") as process:
        assert process.stdout is not None
        read_until(process.stdout, "export MIOESIM_BASE_URL=")
        assert interrupted(process).status == 0
    for option, value in (("--stock", "45=3"), ("--order-form", "x"), ("--search", "x")):
        done = mioesim("sandbox", option, value)
        assert (done.status, done.err.count("\n")) == (2, 1), option


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_for_the_shell_that_is_named(tmp_path: Path, shell: str) -> None:
    done = mioesim("--install-completion", "--shell", shell, HOME=str(tmp_path), ZSH_CUSTOM="")
    assert done.status == 0
    scripts = [path for path in tmp_path.rglob("*mioesim*") if path.is_file()]
    (script,) = [path.read_text() for path in scripts]
    assert all(name in script for name in ("packages", "partners", "history", "query"))
    marks = {"bash": "complete -F", "zsh": "#compdef mioesim", "fish": "complete -c mioesim"}
    assert marks[shell] in script
    if shell == "bash":
        completes = (
            f"{script}\nCOMP_WORDS=(mioesim pack) COMP_CWORD=1\n_mioesim\necho ${{COMPREPLY[@]}}"
        )
        done_too = subprocess.run(
            ["bash", "-c", completes],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ,
            timeout=SECONDS,
        )
        assert done_too.stdout.split() == ["packages"]


def test_completion_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "script"
    done = mioesim("--install-completion", "--shell", "fish", "--output", output)
    assert (done.status, done.err.count("\n")) == (1, 1)
