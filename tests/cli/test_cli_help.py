"""What the command says of itself, and how it ends: help, examples, exit statuses."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from command import mioesim, started

from mioesim_async.cli import exit_status
from mioesim_async.cli.examples import EXAMPLES
from mioesim_async.cli.running import MODULES, app
from mioesim_async.sandbox import Fault, Sandbox

for module in MODULES:
    import_module(f"mioesim_async.cli.{module}")

README = Path(__file__).parents[2] / "README.md"
GROUPS = ("orders", "partners")
NAMES = [
    *[name for name in app if not name.startswith("-")],
    *[f"{one} {name}" for one in GROUPS for name in app[one] if not name.startswith("-")],
]
HARMFUL = "\x1b[31m\u202e\u2066evil\x07"


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_fits_80_columns(name: str) -> None:
    done = mioesim(*name.split(), "--help", COLUMNS="80")
    assert done.status == 0
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_help_ends_with_two_examples_of_the_command(name: str) -> None:
    done = mioesim(*name.split(), "--help")
    told = [line.strip() for line in done.out.partition("Examples:")[2].splitlines()]
    assert [line for line in told if line] == [*EXAMPLES[name]]


@pytest.mark.parametrize("line", sorted({line for two in EXAMPLES.values() for line in two}))
def test_every_example_is_a_command_line_that_the_command_understands(line: str) -> None:
    # It reads the arguments, and calls nothing.
    command, _, _ = app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
    assert callable(command)


@pytest.mark.parametrize("name", ["", *NAMES])
def test_help_waits_for_no_http_library(name: str) -> None:
    code = (
        "import sys; from mioesim_async.cli.running import run; run(sys.argv[1:]); "
        "sys.exit('aiohttp' in sys.modules)"
    )
    command = [sys.executable, "-c", code, *name.split(), "--help"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_help_that_nobody_reads_to_its_end_says_nothing() -> None:
    with started("--help") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.wait(60)


def test_readme_s_exit_statuses_are_those_of_the_command() -> None:
    table = README.read_text(encoding="utf-8").partition("| exit status |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([0-9]+) \| ", table, re.MULTILINE)
    statuses = {value for name, value in vars(exit_status).items() if name.isupper()}
    assert {int(row) for row in rows} == statuses


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("foo",), "The commands are query, "),
        (("foo",), "sandbox. Try 'mioesim --help'."),
        (("query", "--foo"), "Try 'mioesim query --help'."),
        (("orders", "foo"), "Try 'mioesim orders --help'."),
        (("orders", "show"), "Try 'mioesim orders show --help'."),
    ],
)
def test_wrong_usage_points_to_the_help_of_its_command(
    arguments: tuple[str, ...], advice: str
) -> None:
    done = mioesim(*arguments)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert advice in done.err


def test_partners_list_works_as_one_would_type_it() -> None:
    with Sandbox(5) as server:
        done = mioesim("partners", "list", sandbox=server)
        assert (done.status, done.out) == (0, mioesim("partners", sandbox=server).out)


def test_a_token_store_that_looks_like_redis_is_no_file(tmp_path: Path) -> None:
    with Sandbox(5) as server:
        done = mioesim("skus", sandbox=server, MIOESIM_TOKEN_STORE="redis:/host")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "redis://host:port/0" in done.err
    assert not Path("redis:").exists()


@pytest.mark.parametrize("debug", [False, True])
def test_a_host_that_is_too_slow_is_told_of_with_the_flag(debug: bool) -> None:
    with Sandbox(5) as server:
        server.faults.add(Fault.silence(), "getESIMDetail", times=None)
        more = ("--debug",) if debug else ()
        done = mioesim("card", server.iccids[0], "--timeout", "0.2", *more, sandbox=server)
    assert done.status == 5
    assert "raise --timeout" in done.err
    assert "Timeouts(" not in done.err


@pytest.mark.parametrize("debug", [False, True])
def test_nothing_of_the_vendor_s_moves_the_cursor_or_turns_the_text(debug: bool) -> None:
    with Sandbox(5) as server:
        server.faults.add(Fault.refuse(-8, HARMFUL), times=None, endpoint="getESIMDetail")
        more = ("--debug",) if debug else ()
        done = mioesim("card", server.iccids[0], *more, sandbox=server)
    assert "evil" in done.err
    assert not re.search("[\x1b\x07\u202e\u2066]", done.out + done.err)


def test_a_row_of_the_vendor_s_prints_nothing_harmful() -> None:
    row = f'{{"iccid": "8985000000000000001", "orderNum": "EP{HARMFUL}"}}'
    body = '{"code": 0, "data": [%s]}' % row.replace("\x1b", "\\u001b").replace("\x07", "\\u0007")
    with Sandbox(5) as server:
        server.faults.add(Fault.replaced(body.encode()), "getHistoryDetail", times=None)
        done = mioesim("history", "8985000000000000001", sandbox=server)
    assert "evil" in done.out
    assert not re.search("[\x1b\x07\u202e\u2066]", done.out + done.err)


def test_reconcile_prints_nothing_harmful() -> None:
    with Sandbox(5) as server:
        server.faults.add(Fault.lose_request(), "addEsimOrder")
        lost = mioesim("order", "45", "441", "--yes", "--reference", "gone-1", sandbox=server)
        assert lost.status == 4
        server.faults.add(Fault.refuse(-8, HARMFUL), "queryOrder", times=None)
        done = mioesim("orders", "reconcile", sandbox=server)
    assert "evil" in done.out + done.err
    assert not re.search("[\x1b\x07\u202e\u2066]", done.out + done.err)
