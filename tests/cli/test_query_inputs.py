"""What ``mioesim query`` reads: every card is asked for, or one line says why not."""

from __future__ import annotations

import codecs
import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from command import COMMAND, Done, ended, environment, mioesim, started
from waiting import SECONDS, wait_until

from mioesim_async.sandbox import Sandbox

QUERY = "queryIccidInformation"
WAYS = pytest.mark.parametrize("way", ["file", "pipe"])


@pytest.fixture
def server() -> Iterator[Sandbox]:
    with Sandbox(10) as sandbox:
        yield sandbox


def asked(server: Sandbox) -> list[str]:
    """The ICCIDs that were asked for, request by request."""
    lists = [request.params["iccids"] for request in server.requests if request.endpoint == QUERY]
    return [iccid for one in lists for iccid in one.split(",")]


def query(
    server: Sandbox, way: str, content: bytes, file: Path, *options: str, column: bool = True
) -> Done:
    """Query what a file has, from the file or through a pipe."""
    options = (*options, *(("-c", "iccid") if column else ()))
    if way == "pipe":
        return mioesim("query", "-f", "-", *options, typed=content, sandbox=server)
    file.write_bytes(content)
    return mioesim("query", "-f", file, *options, sandbox=server)


def in_shell(server: Sandbox, line: str, *arguments: object) -> Done:
    """Run a line of the shell in which ``"$@"`` is the command."""
    done = subprocess.run(
        ["sh", "-c", line, "sh", *COMMAND, *map(str, arguments)],
        env=environment(server), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=SECONDS,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@WAYS
def test_a_quote_that_is_never_closed_ends_with_2_and_names_its_line(
    server: Sandbox, tmp_path: Path, way: str
) -> None:
    one, two, three = server.iccids[:3]
    content = f'iccid,note\n{one},x\n{two},"7 tablet\n{three},y\n'.encode()
    done = query(server, way, content, tmp_path / "cards.csv", "--quiet")
    assert (done.status, done.err.count("\n")) == (2, 1)
    name = "cards.csv" if way == "file" else "<stdin>"
    assert f"{name}, line 3: a quote opens a cell that takes in line 4" in done.err


@WAYS
def test_a_mark_of_inches_inside_a_cell_is_text(server: Sandbox, tmp_path: Path, way: str) -> None:
    one, two = server.iccids[:2]
    content = f'iccid,note\n{one},7" tablet\n{two},x\n'.encode()
    done = query(server, way, content, tmp_path / "cards.csv", "--keep-columns", "--json")
    notes = {row["iccid"]: row["note"] for row in json.loads(done.out)}
    assert (done.status, notes) == (0, {one: '7" tablet', two: "x"})


@WAYS
@pytest.mark.parametrize("content", [b"", codecs.BOM_UTF8, b"iccid,n\n"])
def test_an_input_of_nothing_is_2_and_with_allow_empty_0(
    server: Sandbox, tmp_path: Path, way: str, content: bytes
) -> None:
    file, output = tmp_path / "cards.csv", tmp_path / "result.csv"
    by_name, empty = way == "pipe", ("--allow-empty", "-o", str(output))
    done = query(server, way, content, file, "--quiet", column=by_name)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "there are no ICCIDs in the input" in done.err
    done = query(server, way, content, file, "--quiet", *empty, column=by_name)
    assert (done.status, done.err, output.read_text().count("\n")) == (0, "", 1)


@pytest.mark.parametrize("name", ["hex", "rot13", "zip", "idna", "undefined", "punycode", "base64"])
def test_an_encoding_that_is_not_of_text_is_not_known(
    server: Sandbox, tmp_path: Path, name: str
) -> None:
    for way in ("file", "pipe"):
        done = query(server, way, b"iccid\n1\n", tmp_path / "cards.csv", "--encoding", name)
        assert (done.status, done.err.count("\n"), server.requests) == (2, 1, [])
        assert f"--encoding {name} is not known" in done.err


@WAYS
@pytest.mark.parametrize("kind", ["csv", "txt"])
@pytest.mark.parametrize(
    ("mark", "encoding", "named"),
    [
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
        (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32-le"),
        (codecs.BOM_UTF8, "utf-8", "utf-8"),
        (codecs.BOM_UTF8, "utf-8", "cp1252"),
    ],
)
def test_a_mark_at_the_beginning_is_no_part_of_the_text_whatever_is_named(
    server: Sandbox, tmp_path: Path, way: str, kind: str, mark: bytes, encoding: str, named: str
) -> None:
    text = ("iccid\n" if kind == "csv" else "") + server.iccids[0] + "\n"
    content, file = mark + text.encode(encoding), tmp_path / f"cards.{kind}"
    done = query(server, way, content, file, "--encoding", named, column=kind == "csv")
    assert (done.status, asked(server)) == (0, server.iccids[:1])


@WAYS
@pytest.mark.parametrize("kind", ["csv", "txt"])
@pytest.mark.parametrize(
    ("encoding", "named"), [("utf-16-le", ""), ("utf-16-be", ""), ("utf-16-le", "utf-16"),
                            ("utf-16-le", "cp1252"), ("utf-8", "utf-16")],
)  # fmt: skip
def test_utf_16_without_a_mark_is_told_what_to_name(
    server: Sandbox, tmp_path: Path, way: str, kind: str, encoding: str, named: str
) -> None:
    text = ("iccid\n" if kind == "csv" else "") + server.iccids[0] + "\n"
    content, file = text.encode(encoding), tmp_path / f"cards.{kind}"
    options = ("--encoding", named) if named else ()
    done = query(server, way, content, file, "--quiet", *options, column=kind == "csv")
    assert (done.status, done.err.count("\n"), asked(server)) == (2, 1, [])
    assert "--encoding utf-16-le, or utf-16-be" in done.err


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
@pytest.mark.parametrize("column", [(), ("-c", "iccid")])
def test_ctrl_c_ends_the_wait_for_a_named_pipe_that_nobody_writes_to(
    server: Sandbox, tmp_path: Path, column: tuple[str, ...]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with started("query", "-f", pipe, *column, sandbox=server) as process:
        wait_until(lambda: _has_opened(process.pid, pipe))
        process.send_signal(signal.SIGINT)
        assert ended(process).status == 130


def _has_opened(pid: int, pipe: Path) -> bool:
    # The process opens and closes others meanwhile.
    with suppress(FileNotFoundError):
        return any(one.samefile(pipe) for one in Path(f"/proc/{pid}/fd").iterdir())
    return False


@pytest.mark.parametrize(("is_typed", "status"), [(True, 0), (False, 130)])
def test_a_terminal_is_read_to_its_end_or_ctrl_c_and_left_as_it_was(
    server: Sandbox, is_typed: bool, status: int
) -> None:
    ours, theirs = pty.openpty()
    try:
        with started("query", "-f", "-", sandbox=server, stdin=theirs) as process:
            wait_until(lambda: server.requests)
            if is_typed:
                os.write(ours, f"{server.iccids[0]}\n\x04".encode())
            else:
                process.send_signal(signal.SIGINT)
            assert ended(process).status == status
        assert os.get_blocking(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_closed_standard_input_is_an_empty_one(server: Sandbox) -> None:
    done = in_shell(server, '"$@" <&-', "query", "--quiet")
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "there are no ICCIDs in the input" in done.err
    assert in_shell(server, '"$@" <&-', "query", server.iccids[0], "--quiet").status == 0


def test_a_closed_standard_output_is_2_before_a_byte_is_sent(server: Sandbox) -> None:
    for arguments in (("query", server.iccids[0]), ("order", 45, 441, "--yes"), ("--help",)):
        done = in_shell(server, '"$@" >&-', *arguments)
        assert (done.status, done.err.count("\n"), server.requests) == (2, 1, [])
        assert "standard output is closed" in done.err


def test_a_closed_standard_error_takes_nothing_from_the_output(server: Sandbox) -> None:
    done = in_shell(server, '"$@" 2>&-', "query", server.iccids[0], "--format", "jsonl")
    assert (done.status, json.loads(done.out)["iccid"]) == (0, server.iccids[0])


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_columns_of_one_name_lose_nothing(server: Sandbox, tmp_path: Path, kind: str) -> None:
    file, output = tmp_path / "cards.csv", tmp_path / f"result.{kind}"
    content = f"name,iccid,name,\na,{server.iccids[0]},b,c\n".encode()
    done = query(server, "file", content, file, "--keep-columns", "-o", str(output))
    assert done.status == 0
    if kind == "jsonl":
        row = json.loads(output.read_text())
        assert (row["name"], row["name 2"], row["column 4"]) == ("a", "b", "c")
    elif kind == "csv":
        header, row = output.read_text().splitlines()
        assert header.endswith(",name,name 2,column 4")
        assert row.endswith(",a,b,c")
