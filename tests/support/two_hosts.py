"""Two hosts with addresses of their own, each of which can be cut off from Redis.

A host is a network namespace, and packets to Redis get lost; or it is an address of loopback, and a
proxy before Redis ends its connections, for machines that allow no namespaces.
"""

from __future__ import annotations

import ctypes
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import pytest
from attrs import define
from cutting import Cutter, Mode, cutter
from waiting import SECONDS, read_until

__all__ = ["Host", "Network", "in_network"]

CLONE_NEWNET = 0x40000000
SERVERS, REDIS = "10.0.0.1", "10.0.0.2"
HOSTS = ("10.0.0.11", "10.0.0.12")
LOOPBACK, LOOPBACK_HOSTS = "127.0.0.1", ("127.0.0.2", "127.0.0.3")
NOBODY = "02:00:00:00:00:01"
"""A hardware address that no interface has."""


@define
class Host:
    """One host.

    Attributes:
        address: Its address.
        run_by: The command that runs another on this host.
        redis_url: Where Redis is for its processes.
        cut_off: Cut it off from Redis.
        reconnect: Undo that.
    """

    address: str
    run_by: list[str]
    redis_url: str
    cut_off: Callable[[], object]
    reconnect: Callable[[], object]


@define
class Network:
    """Where the servers that all hosts use can listen, and how hosts are made.

    Attributes:
        servers: The address of the vendor and of the database.
        redis: The address of Redis.
        hosts: Makes the two hosts, given the URL of Redis.
    """

    servers: str
    redis: str
    hosts: Callable[[str], AbstractAsyncContextManager[list[Host]]]


def in_network(work: Callable[[Network], None], *, isolated: bool) -> None:
    """Do work in a network of two hosts, and raise what it raises.

    Args:
        work: What to do. Servers and processes that it starts are in this network.
        isolated: Use network namespaces, not loopback. If the machine doesn't allow it, the test
            is skipped.
    """
    if isolated and not _allows_namespaces():
        raise pytest.skip.Exception("this machine allows no network namespaces")
    raised: list[BaseException] = []

    def run() -> None:
        try:
            if isolated:
                with _namespaces() as names:
                    work(Network(SERVERS, REDIS, lambda url: _namespace_hosts(names, url)))
            else:
                work(Network(LOOPBACK, LOOPBACK, _loopback_hosts))
        except BaseException as error:
            raised.append(error)

    # A namespace belongs to a thread, its children and what they open, and vanishes with them.
    thread = threading.Thread(target=run, name="network")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]


def _allows_namespaces() -> bool:
    """Find out by trying, in a namespace that ends at once."""
    tried = "ip link add hub type bridge && ip link add host0 type veth peer name eth0"
    command = ["unshare", "--net", "nsenter", "--net=/proc/self/ns/net", "--", "sh", "-c", tried]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except OSError:
        return False
    return done.returncode == 0


@contextmanager
def _namespaces() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Move this thread to a new network namespace, with two others beside it.

    Yields:
        A process in each of the two others.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "no network namespace")
    _ip("link set lo up", "link add hub type bridge", "link set hub up")
    _ip(*(f"address add {address}/24 dev hub" for address in (SERVERS, REDIS)))
    with ExitStack() as stack:
        names = []
        for number, address in enumerate(HOSTS):
            # It ends when its standard input is closed, so also when this process is killed.
            name = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "echo in; exec cat"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            stack.callback(name.wait, SECONDS)
            stack.enter_context(name)
            stack.callback(name.kill)
            names.append(name)
            assert name.stdout is not None
            read_until(name.stdout, "in\n")
            _ip(
                f"link add host{number} type veth peer name eth0 netns {name.pid}",
                f"link set host{number} master hub up",
            )
            inside = _inside(name)
            _ip(
                "link set lo up",
                f"address add {address}/24 dev eth0",
                "link set eth0 up",
                by=inside,
            )
        yield names


def _inside(name: subprocess.Popen[bytes]) -> list[str]:
    return ["nsenter", f"--net=/proc/{name.pid}/ns/net", "--"]


def _ip(*commands: str, by: list[str] | None = None) -> None:
    for command in commands:
        subprocess.run(
            [*(by or []), "ip", *command.split()], check=True, capture_output=True, timeout=SECONDS
        )


@asynccontextmanager
async def _namespace_hosts(
    names: list[subprocess.Popen[bytes]], redis_url: str
) -> AsyncIterator[list[Host]]:
    def host(address: str, inside: list[str]) -> Host:
        neighbour = f"{REDIS} dev eth0"
        return Host(
            address,
            inside,
            redis_url,
            # Packets go to nobody, and no answer tells so.
            lambda: _ip(f"neigh replace {neighbour} lladdr {NOBODY} nud permanent", by=inside),
            lambda: _ip(f"neigh del {neighbour}", by=inside),
        )

    yield [host(address, _inside(name)) for address, name in zip(HOSTS, names, strict=True)]


@asynccontextmanager
async def _loopback_hosts(redis_url: str) -> AsyncIterator[list[Host]]:
    port = urlsplit(redis_url).port
    assert port is not None

    def host(address: str, proxy: Cutter) -> Host:
        url = redis_url.replace(f":{port}", f":{proxy.port}")
        return Host(address, [], url, proxy.cut, lambda: setattr(proxy, "mode", Mode.PASS))

    one, other = LOOPBACK_HOSTS
    async with cutter(port) as first, cutter(port) as second:
        yield [host(one, first), host(other, second)]
