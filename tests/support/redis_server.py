"""A Redis server for the tests, which they can stop and start again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from waiting import SECONDS

__all__ = ["PASSWORD", "RedisServer", "running_redis"]

PASSWORD = "made-up-redis-password"

LOOPBACK = "127.0.0.1"
TRIES = 200


class RedisServer:
    """Debian's ``redis-server`` on loopback or another address, which keeps nothing on disk.

    Attributes:
        url: Its URL, with the password.
    """

    def __init__(self, program: str, directory: Path, address: str = LOOPBACK) -> None:
        with socket.socket() as probe:
            probe.bind((address, 0))
            self._address = probe.getsockname()
        self.url = f"redis://:{PASSWORD}@{address}:{self._address[1]}/0"
        self._command = [
            program,
            *("--port", str(self._address[1]), "--bind", address),
            *("--save", "", "--appendonly", "no", "--dir", str(directory)),
            *("--requirepass", PASSWORD),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it without data, on the port that it had before."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(TRIES):
            if self._process.poll() is not None:
                raise RuntimeError(f"redis-server ended with {self._process.returncode}")
            if self._answers():
                return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError("redis-server doesn't answer")

    def stop(self) -> None:
        """Stop it; its data is lost."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(SECONDS)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(self._address, timeout=1) as probe:
                probe.sendall(f"AUTH {PASSWORD}\r\nPING\r\n".encode())
                answer = probe.makefile("rb")
                return (answer.readline(), answer.readline()) == (b"+OK\r\n", b"+PONG\r\n")
        except OSError:
            return False


@contextmanager
def running_redis(address: str = LOOPBACK) -> Iterator[RedisServer]:
    """Run a server at an address. If none is installed, fail in CI, and skip the test elsewhere."""
    program = shutil.which("redis-server")
    if program is None:
        reason = "redis-server is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        raise pytest.skip.Exception(reason)
    with tempfile.TemporaryDirectory(prefix="mioesim-redis-") as directory:
        server = RedisServer(program, Path(directory), address)
        try:
            server.start()
            yield server
        finally:
            server.stop()
