"""Two shops sell for one account: whatever fails, nothing is bought twice and no order is lost."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, TCPConnector
from attrs import define, field
from command import environment
from postgres_server import PostgresServer, new_schema, running_postgres
from redis_server import running_redis
from shopping import PLAN
from stores import spawned
from two_hosts import Host, Network, in_network
from waiting import SECONDS, line_of, until

from mioesim_async import EntryState, PostgresOrderJournal, errors
from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.tokens.redis import RedisTokenStore

SENDS = 6
"""How often each reference is sent at once."""
WORKERS = 2
"""How many workers a shop has."""
ACCOUNT = "our shops"
HELD = 30.0
"""Seconds of the vendor's clock from an order to its answer, while answers are held."""
SLOW = 0.2
"""The same afterwards."""

CODE = "import asyncio, sys, shop_worker; asyncio.run(shop_worker.main(*sys.argv[1:]))"


@define
class Answer:
    """What a caller got for a reference; neither an order nor an error if its worker was killed."""

    reference: str
    began: float
    ended: float
    order: dict[str, Any] | None
    error: errors.MioEsimError | None


@define
class Worker:
    """A process of a shop."""

    host: Host
    process: asyncio.subprocess.Process
    url: str


@define
class Shops:
    """The two shops and their vendor, and what their callers got."""

    sandbox: Sandbox
    database: str
    schema: str
    session: ClientSession
    processes: AsyncExitStack
    workers: list[Worker] = field(factory=list)
    answers: list[Answer] = field(factory=list)

    @property
    def placed(self) -> set[str]:
        """The references of the vendor's orders."""
        return {str(order.other_order_id) for order in self.sandbox.orders}

    async def start(self, host: Host) -> None:
        """Start a worker on a host, and wait until it serves."""
        settings = environment(
            self.sandbox,
            MIOESIM_ACCOUNT=ACCOUNT,
            MIOESIM_ALLOW_INSECURE_HTTP="1",
            MIOESIM_TOKEN_STORE=host.redis_url,
        )
        arguments = (host.address, self.database, self.schema)
        worker = spawned(CODE, *arguments, environment=settings, run_by=host.run_by)
        process = await self.processes.enter_async_context(worker)
        port = await line_of(process)
        self.workers.append(Worker(host, process, f"http://{host.address}:{port}"))

    def send(
        self, references: list[str], *, only: Host | None = None
    ) -> list[asyncio.Task[Answer]]:
        """Send each reference several times at once, by the workers of both shops or of one."""
        turns = itertools.cycle(worker for worker in self.workers if only in (None, worker.host))
        return [
            asyncio.create_task(self.ask(reference, next(turns)))
            for reference in references
            for _ in range(SENDS)
        ]

    async def ask(self, reference: str, worker: Worker) -> Answer:
        """Send a reference once."""
        now = asyncio.get_running_loop().time
        began, got = now(), {}
        try:
            params = {**PLAN, "reference": reference}
            async with self.session.post(f"{worker.url}/buy", params=params) as reply:
                got = await reply.json()
        except ClientError:
            pass
        error = errors.from_dict(got["error"]) if "error" in got else None
        answer = Answer(reference, began, now(), got.get("order"), error)
        self.answers.append(answer)
        return answer

    async def health(self, worker: Worker) -> Any:
        """Ask a worker how its client is doing."""
        async with self.session.get(f"{worker.url}/health") as reply:
            return await reply.json()

    def hold_answers(self, seconds: float) -> None:
        """Have the vendor place orders at once, and answer so much later by its clock."""
        self.sandbox.faults.clear()
        late = Fault.after_effect(Fault.slow(seconds))
        self.sandbox.faults.add(late, "addEsimOrder", times=None)


async def kill_a_worker(shops: Shops, references: list[str], journal: PostgresOrderJournal) -> None:
    """Kill a worker that has sent orders and waits for their answers, and start another."""
    sends = shops.send(references)
    await until(lambda: {*references} <= shops.placed)
    under_way = [(await shops.health(worker))["in_flight"] for worker in shops.workers]
    killed = shops.workers.pop(under_way.index(max(under_way)))
    killed.process.kill()
    async with asyncio.timeout(SECONDS):
        await killed.process.wait()
    shops.sandbox.clock.advance(HELD)
    await asyncio.gather(*sends)
    # The entries of the others are settled.
    assert len(await journal.open_entries()) == max(under_way) > 0
    await shops.start(killed.host)


async def restart_the_database(
    shops: Shops, references: list[str], postgres: PostgresServer
) -> None:
    """Stop the database while orders are under way, and start it when all have ended."""
    before, during = references[::2], references[1::2]
    sends = shops.send(before)
    await until(lambda: {*before} <= shops.placed)
    await asyncio.to_thread(postgres.stop)
    refused = await asyncio.gather(*shops.send(during))
    assert {type(answer.error) for answer in refused} == {errors.JournalUnavailable}
    shops.sandbox.clock.advance(HELD)
    bought = {answer.reference for answer in await asyncio.gather(*sends) if answer.order}
    assert bought == {*before}, "each order reaches a caller, though it can't be recorded"
    assert not {*during} & shops.placed
    await asyncio.to_thread(postgres.start)


async def cut_a_shop_off(shops: Shops, references: list[str], host: Host) -> None:
    """Cut a shop off from Redis when the token ends, and connect it again.

    It gets a token of its own, so that each shop ends the other's. A purchase that is refused for
    that was certainly not placed.
    """
    host.cut_off()
    shops.sandbox.evict()
    answers = await asyncio.gather(*shops.send(references[::2], only=host))
    assert any(answer.order for answer in answers), "it sells without Redis"
    lonely = [worker for worker in shops.workers if worker.host is host]
    assert not all([(await shops.health(worker))["store"] for worker in lonely])
    sends = shops.send(references[1::2])
    host.reconnect()
    answers += await asyncio.gather(*sends)
    allowed = {errors.OutcomeUnknown, errors.TokenContention}
    assert {type(answer.error) for answer in answers if answer.error} <= allowed


def nobody_was_misled(shops: Shops) -> None:
    """Check that no caller was told that its order wasn't placed, though it was."""
    of: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in shops.answers:
        of[answer.reference].append(answer)
    for reference in shops.placed:
        denied = [one for one in of[reference] if one.error and one.error.was_placed is False]
        # Such a call was refused before another one bought it.
        assert {type(one.error) for one in denied} <= {errors.TokenContention}
        assert len(denied) < len(of[reference])
        known = min((one.ended for one in of[reference] if one.order), default=None)
        assert known is None or all(one.began <= known for one in denied)


async def all_agree(
    shops: Shops, references: list[str], journal: PostgresOrderJournal, redis_url: str
) -> None:
    """Reconcile, let callers without an order ask again, and compare what everybody knows."""
    await until(lambda: not shops.sandbox.under_way)
    nobody_was_misled(shops)
    async with shops.sandbox.client(
        account=ACCOUNT,
        allow_insecure_http=True,
        order_journal=journal,
        token_store=RedisTokenStore(redis_url),
    ) as client:
        # Nothing is under way any more, so what isn't there never was.
        report = await client.orders.reconcile(assume_absent_after=timedelta(0))
        account = client._caller.account
    assert not report.still_open
    assert not report.candidates
    assert not await journal.open_entries()
    turns = itertools.cycle(shops.workers)
    without = [answer.reference for answer in shops.answers if not answer.order]
    # What was never bought is bought by one caller, before the others ask for it.
    for again in ({*without} - shops.placed, without):
        asked = [shops.ask(reference, next(turns)) for reference in again]
        assert None not in [answer.order for answer in await asyncio.gather(*asked)]
    assert Counter(order.other_order_id for order in shops.sandbox.orders) == Counter(references)
    for order in shops.sandbox.orders:
        entry = await journal.find(account, str(order.other_order_id))
        assert entry is not None
        assert (entry.state, entry.order_num) == (EntryState.PLACED, order.order_num)
        mine = [one for one in shops.answers if one.reference == order.other_order_id]
        told = [answer.order for answer in mine if answer.order]
        assert len(told) >= SENDS
        assert told == [{"order_num": order.order_num, "iccids": order.iccids}] * len(told)


async def sell(network: Network, count: int, postgres: PostgresServer, redis_url: str) -> None:
    """Sell so many orders by two shops, a quarter of them under each trouble."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(10, host=network.servers))
        hosts = await stack.enter_async_context(network.hosts(redis_url))
        session = await stack.enter_async_context(ClientSession(connector=TCPConnector(limit=0)))
        database, schema = postgres.url.replace("127.0.0.1", network.servers), new_schema()
        journal = PostgresOrderJournal(database, schema=schema)
        stack.push_async_callback(journal.aclose)
        processes = await stack.enter_async_context(AsyncExitStack())
        shops = Shops(sandbox, database, schema, session, processes)
        await asyncio.gather(*(shops.start(host) for host in hosts * WORKERS))
        assert sandbox.logins == 1, "all workers use one token"
        references = [f"ref-{number}" for number in range(count)]
        first, second, third, fourth = (references[part::4] for part in range(4))
        shops.hold_answers(HELD)
        await kill_a_worker(shops, first, journal)
        await restart_the_database(shops, second, postgres)
        shops.hold_answers(SLOW)
        await cut_a_shop_off(shops, third, hosts[1])
        await asyncio.gather(*shops.send(fourth))
        await all_agree(shops, references, journal, redis_url)


def with_servers(network: Network, count: int) -> None:
    """Start the servers that the shops share, and sell so many orders."""
    addresses = ",".join({"127.0.0.1", network.servers})
    with (
        running_postgres(listen_addresses=addresses) as postgres,
        running_redis(network.redis) as redis,
    ):

        async def bounded() -> None:
            async with asyncio.timeout(SECONDS if count < 100 else 5 * SECONDS):
                await sell(network, count, postgres, redis.url)

        asyncio.run(bounded())


@pytest.mark.parametrize(
    ("references", "isolated"),
    [
        (8, False),
        pytest.param(100, False, marks=pytest.mark.slow),
        pytest.param(100, True, marks=pytest.mark.slow),
    ],
    ids=["8 on loopback", "100 on loopback", "100 in namespaces"],
)
def test_vendor_journal_and_callers_of_two_hosts_agree_whatever_fails(
    references: int, isolated: bool
) -> None:
    in_network(lambda network: with_servers(network, references), isolated=isolated)
