"""A PostgreSQL server of the tests' own, that can be stopped and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from waiting import SECONDS

__all__ = ["PASSWORD", "PostgresServer", "new_schema", "programs", "psql", "running_postgres"]

PASSWORD = "made-up-postgres-password"
USER = "shop"
TRIES = 400

SETTINGS = {
    # A crash of the machine is not tried; a crash of the server loses nothing that it wrote.
    "fsync": "off",
    # A journal has to ask for more than what the server gives by itself.
    "synchronous_commit": "off",
    "wal_writer_delay": "10s",
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "autovacuum": "off",
    "jit": "off",
}


def programs() -> Path | None:
    """Return the directory of the newest PostgreSQL's programs, or None."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    other = shutil.which("initdb")
    return found[-1].parent if found else None if other is None else Path(other).parent


def new_schema() -> str:
    """Return a name for a schema of a test's own."""
    return f"Test {uuid.uuid4().hex}"


def psql(url: str, statement: str) -> str:
    """Run a statement by a connection of its own, and return what it prints."""
    place = programs()
    assert place is not None
    done = subprocess.run(
        [place / "psql", url, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement],
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    return done.stdout


def _as_plain_user() -> dict[str, Any]:
    """Return what has a child run as a plain user: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    with suppress(KeyError):
        user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class PostgresServer:
    """Debian's PostgreSQL on loopback, with its files in a directory.

    Attributes:
        url: Where it is, with its password.
    """

    def __init__(self, programs: Path, directory: Path, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        self._programs, self._directory = programs, directory
        self._settings = SETTINGS | settings
        self._as_user = _as_plain_user()
        self._process: subprocess.Popen[bytes] | None = None
        if self._as_user:
            os.chown(directory, self._as_user["user"], self._as_user["group"])
        secret = directory / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "--pgdata", str(directory / "data"), "--username", USER,
            "--pwfile", str(secret), "--auth", "scram-sha-256", "--encoding", "UTF8",
            "--locale", "C", "--no-sync",
        )  # fmt: skip
        with (directory / "data" / "pg_hba.conf").open("a") as rules:
            # For a server that listens on more than loopback.
            rules.write("host all all samenet scram-sha-256\n")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], **self._as_user, cwd=self._directory,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr}")

    def start(self) -> None:
        """Start it on the port that it had before."""
        command = [str(self._programs / "postgres"), "-D", str(self._directory / "data")]
        command += ["-p", str(self.port), "-k", str(self._directory)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, **self._as_user, cwd=self._directory, stdout=log, stderr=log
            )
        for _ in range(TRIES):
            if self._process.poll() is not None:
                raise RuntimeError(f"postgres ended with {self._process.returncode}")
            if self._is_up():
                return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError("postgres doesn't answer")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it by its own process id: SIGINT shuts it down, SIGQUIT lets it crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(SECONDS)

    def _is_up(self) -> bool:
        ready = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ready, timeout=SECONDS, check=False).returncode == 0


@contextmanager
def running_postgres(**settings: str) -> Iterator[PostgresServer]:
    """Run a server, with other settings too; without one fail in CI, and skip elsewhere."""
    place = programs()
    if place is None:
        reason = "PostgreSQL is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        raise pytest.skip.Exception(reason)
    with tempfile.TemporaryDirectory(prefix="mioesim-postgres-") as directory:
        server = PostgresServer(place, Path(directory), **settings)
        try:
            server.start()
            yield server
        finally:
            server.stop()
