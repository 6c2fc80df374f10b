"""The order journal in PostgreSQL: its tables, its connections, and a server that goes away."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import threading
import traceback
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from attrs import evolve
from cutting import Mode, cutter
from journals import ACCOUNT, intent, placed
from postgres_server import PASSWORD, PostgresServer, new_schema, psql
from shopping import buy
from stores import spawned
from waiting import SECONDS, until

from mioesim_async import EntryState, JournalEntry, PostgresOrderJournal
from mioesim_async.errors import (
    ConfigurationError,
    JournalUnavailable,
    MioEsimError,
    SpendLimitReached,
)
from mioesim_async.journal import (
    postgres as journal_in_postgres,
    postgres_connections,
    postgres_faults,
    postgres_table,
)
from mioesim_async.sandbox import Sandbox

DOWN = "can't be used now; nothing was sent, try later: it doesn't answer; look whether it runs"


@pytest.fixture
def kept_in() -> str:
    return "postgres"


@pytest.fixture
async def stopped(postgres: PostgresServer) -> AsyncIterator[PostgresServer]:
    """The server, to be stopped; it runs again at the end."""
    yield postgres
    if postgres._process is None:
        postgres.start()


def named(journal: PostgresOrderJournal, table: str) -> str:
    return f'"{journal._table.schema}".mioesim_{table}'


# Tables.


async def test_tables_are_made_once_by_many_that_come_at_once(postgres: PostgresServer) -> None:
    schema = new_schema()
    journals = [PostgresOrderJournal(postgres.url, schema=schema) for _ in range(6)]
    came = await asyncio.gather(*(journal.begin(intent()) for journal in journals))
    assert came.count(None) == 1
    assert psql(postgres.url, f'SELECT version FROM "{schema}".mioesim_journal') == "1\n"
    for journal in journals:
        await journal.aclose()


async def test_tables_of_an_earlier_version_are_upgraded_step_by_step_and_once(
    journal: PostgresOrderJournal, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = intent()
    await journal.begin(entry)
    steps = (
        *postgres_table.LAYOUTS,
        ("CREATE TABLE {schema}.second (n int)", "INSERT INTO {schema}.second VALUES (2)"),
        ("INSERT INTO {schema}.second VALUES (3)",),
    )
    monkeypatch.setattr(postgres_table, "LAYOUTS", steps)
    later = [PostgresOrderJournal(postgres.url, schema=journal._table.schema) for _ in range(4)]
    found = await asyncio.gather(*(one.find(ACCOUNT, "ref-1") for one in later))
    assert found == [entry] * 4
    where = f'FROM "{journal._table.schema}"'
    assert psql(postgres.url, f"SELECT array_agg(n ORDER BY n) {where}.second") == "{2,3}\n"
    assert psql(postgres.url, f"SELECT version {where}.mioesim_journal") == "3\n"
    for one in later:
        await one.aclose()


async def test_a_later_version_is_refused_and_what_is_under_way_is_still_settled(
    journal: PostgresOrderJournal, postgres: PostgresServer
) -> None:
    entry = intent()
    await journal.begin(entry)
    psql(postgres.url, f"UPDATE {named(journal, 'journal')} SET version = 99")
    new = PostgresOrderJournal(postgres.url, schema=journal._table.schema)
    with pytest.raises(ConfigurationError, match="later version of mioesim_async wrote it; update"):
        await new.find(ACCOUNT, "ref-1")
    await new.aclose()
    with pytest.raises(JournalUnavailable, match=r"nothing was sent.*later version"):
        await journal.begin(intent("ref-2"))
    assert await placed(journal, entry, order_num="N-1")


@pytest.mark.parametrize("name", ["Shop", 'a"; DROP SCHEMA public; --', "it's", "{orders}", "ü"])
async def test_the_schema_s_name_is_quoted(postgres: PostgresServer, name: str) -> None:
    name += new_schema()[:20]
    journal = PostgresOrderJournal(postgres.url, schema=name)
    assert await journal.begin(intent()) is None
    made = psql(postgres.url, "SELECT nspname FROM pg_namespace").splitlines()
    assert name in made
    assert "public" in made
    await journal.aclose()


@pytest.mark.parametrize("name", ["", "x" * 64, "ü" * 32, "a\0b"])
def test_a_name_that_no_schema_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="schema must be a name of 1 to 63 bytes"):
        PostgresOrderJournal("postgresql://host/db", schema=name)


async def test_a_database_that_can_t_keep_every_text_is_refused(postgres: PostgresServer) -> None:
    name = new_schema()
    psql(
        postgres.url,
        f"CREATE DATABASE \"{name}\" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    )
    url = postgres.url.replace("/postgres", f"/{name.replace(' ', '%20')}")
    journal = PostgresOrderJournal(url)
    with pytest.raises(ConfigurationError, match=r"encoding is not UTF8.*createdb --encoding=UTF8"):
        await journal.begin(intent())
    await journal.aclose()


VANISH = [
    "DROP SCHEMA {schema} CASCADE",
    "DROP TABLE {schema}.mioesim_orders",
    "DELETE FROM {schema}.mioesim_journal",
    "UPDATE {schema}.mioesim_journal SET mark = 'another'",
]


@pytest.mark.parametrize("vanish", VANISH)
async def test_a_journal_that_vanished_is_refused_and_not_made_anew(
    journal: PostgresOrderJournal, postgres: PostgresServer, vanish: str
) -> None:
    await journal.begin(intent())
    psql(postgres.url, vanish.replace("{schema}", f'"{journal._table.schema}"'))
    for _ in range(2):
        for work in (journal.begin(intent("ref-2")), journal.find(ACCOUNT, "ref-1")):
            with pytest.raises(JournalUnavailable, match=r"tables have vanished.*vendor's list"):
                await work


async def test_a_table_that_was_emptied_is_not_taken_for_a_new_journal(
    journal: PostgresOrderJournal, postgres: PostgresServer
) -> None:
    await journal.begin(intent())
    psql(postgres.url, f"DELETE FROM {named(journal, 'journal')}")
    new = PostgresOrderJournal(postgres.url, schema=journal._table.schema)
    with pytest.raises(JournalUnavailable, match="tables have vanished"):
        await new.begin(intent("ref-2"))
    await new.aclose()


# Durability.


async def test_what_is_written_survives_a_crash_of_a_server_that_commits_lazily(
    journal: PostgresOrderJournal, stopped: PostgresServer
) -> None:
    entry = intent()
    assert psql(stopped.url, "SHOW synchronous_commit") == "off\n"
    await journal.begin(entry)
    stopped.stop(signal.SIGQUIT)
    stopped.start()
    assert await journal.find(ACCOUNT, "ref-1") == entry
    assert await placed(journal, entry, EntryState.REFUSED)
    stopped.stop(signal.SIGQUIT)
    stopped.start()
    again = intent()
    assert await journal.begin(again) is None
    stopped.stop(signal.SIGQUIT)
    stopped.start()
    assert await journal.find(ACCOUNT, "ref-1") == again


# A server that goes away.


async def test_a_database_that_is_down_before_the_purchase_says_try_later_and_nothing_is_sent(
    sandbox: Sandbox, journal: PostgresOrderJournal, stopped: PostgresServer
) -> None:
    async with sandbox.client(order_journal=journal) as client:
        stopped.stop()
        for _ in range(2):
            with pytest.raises(JournalUnavailable, match=DOWN) as caught:
                await buy(client, "shop-1")
            assert caught.value.was_placed is None
        stopped.start()
        await buy(client, "shop-1")
        stopped.stop()
        with pytest.raises(JournalUnavailable, match=DOWN):
            await buy(client, "shop-2")
        stopped.start()
        await buy(client, "shop-2")
    assert len(sandbox.orders) == 2


def stop_at_the_order(sandbox: Sandbox, server: PostgresServer, how: signal.Signals) -> None:
    answer = sandbox._vendor.answer

    def stopping(path: str, params: dict[str, str], fault: Any) -> Any:
        if path.endswith("addEsimOrder") and server._process is not None:
            server.stop(how)
        return answer(path, params, fault)

    sandbox._vendor.answer = stopping  # type: ignore[method-assign]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_a_database_that_goes_down_in_mid_purchase_loses_neither_order_nor_answer(
    sandbox: Sandbox, journal: PostgresOrderJournal, stopped: PostgresServer,
    caplog: pytest.LogCaptureFixture, how: signal.Signals,
) -> None:  # fmt: skip
    sandbox.clock._skip = False
    async with sandbox.client(order_journal=journal) as client:
        await client.login()
        stop_at_the_order(sandbox, stopped, how)
        order = await buy(client, "shop-1")
        said = f"reference shop-1 is placed as order {order.order_num}"
        assert f"could not record that {said}" in caplog.text
        assert (await buy(client, "shop-1")).order_num == order.order_num, "this client knows it"
        stopped.start()
        await until(lambda: bool(sandbox.clock.advance(5)) or "has now recorded" in caplog.text)
        entry = await journal.find(client.account, "shop-1")
    assert f"has now recorded that {said}" in caplog.text
    assert entry is not None
    assert (entry.state, entry.order_num) == (EntryState.PLACED, order.order_num)
    assert len(sandbox.orders) == 1
    assert "has not recorded" not in caplog.text
    assert PASSWORD not in caplog.text


async def test_a_database_that_stays_down_is_told_in_the_log_with_reference_and_number(
    sandbox: Sandbox, journal: PostgresOrderJournal, stopped: PostgresServer,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    sandbox.clock._skip = False
    async with sandbox.client(order_journal=journal) as client:
        await client.login()
        stop_at_the_order(sandbox, stopped, signal.SIGINT)
        order = await buy(client, "shop-1")
    said = f"has not recorded that reference shop-1 is placed as order {order.order_num}; settle"
    assert said in caplog.text


def through(postgres: PostgresServer, port: int) -> PostgresOrderJournal:
    url = postgres.url.replace(str(postgres.port), str(port))
    return PostgresOrderJournal(url, schema=new_schema())


async def test_an_intent_whose_answer_was_lost_is_known_as_the_same_attempt(
    postgres: PostgresServer,
) -> None:
    async with cutter(postgres.port) as proxy:
        journal = through(postgres, proxy.port)
        # Now connection and statement are prepared, and the next answer is that of the commit.
        await journal.begin(intent("before"))
        entry = intent()
        proxy.mode = Mode.LOSE_ANSWER
        assert await journal.begin(entry) is None
        assert proxy.mode is Mode.PASS
        assert await journal.find(ACCOUNT, "ref-1") == entry
        await placed(journal, intent("nothing"), order_num="N-1")
        proxy.mode = Mode.LOSE_ANSWER
        assert await placed(journal, entry, order_num="N-1")
        await journal.aclose()


async def test_an_intent_whose_commit_got_no_answer_is_settled_as_not_sent_when_it_can(
    sandbox: Sandbox, postgres: PostgresServer
) -> None:
    sandbox.clock._skip = False
    async with cutter(postgres.port) as proxy:
        journal = through(postgres, proxy.port)
        direct = PostgresOrderJournal(postgres.url, schema=journal._table.schema)
        async with sandbox.client(order_journal=journal) as client:
            await buy(client, "before")
            proxy.mode = Mode.LOSE_ALL
            with pytest.raises(JournalUnavailable, match="nothing was sent, try later"):
                await buy(client, "shop-1")
            entry = await direct.find(client.account, "shop-1")
            assert entry is not None
            assert entry.state is EntryState.OPEN, "the commit was made"
            assert len(sandbox.orders) == 1
            proxy.mode = Mode.PASS

            async def state() -> EntryState:
                found = await direct.find(client.account, "shop-1")
                assert found is not None
                assert found.attempt == entry.attempt
                return found.state

            async with asyncio.timeout(SECONDS):
                while await state() is EntryState.OPEN:
                    sandbox.clock.advance(5)
            assert await state() is EntryState.NOT_SENT
            await buy(client, "shop-1")
        assert len(sandbox.orders) == 2
        await direct.aclose()


@pytest.mark.parametrize("work", ["begin", "settle"])
async def test_what_is_written_is_finished_though_the_caller_or_the_whole_loop_is_cancelled(
    journal: PostgresOrderJournal, postgres: PostgresServer, work: str
) -> None:
    entry = intent()
    await journal.begin(evolve(entry, other_order_id="other", attempt="other"))
    if work == "settle":
        await journal.begin(entry)
    db = await asyncpg.connect(postgres.url)
    for cancel_all in (False, True):
        number = f"N-{cancel_all}"
        async with db.transaction():
            await db.execute(f"LOCK TABLE {named(journal, 'orders')} IN SHARE MODE")
            if work == "settle":
                coroutine: Any = placed(journal, entry, EntryState.UNKNOWN, order_num=number)
            else:
                coroutine = journal.begin(evolve(entry, other_order_id=number, attempt=number))
            others = asyncio.all_tasks()
            task = asyncio.create_task(coroutine)
            await until(lambda: _waiting(postgres) == 1, pause=0.02)
            first = psql(postgres.url, "SELECT DISTINCT pid FROM pg_locks WHERE NOT granted")
            for one in asyncio.all_tasks() - others if cancel_all else [task]:
                one.cancel()
            await asyncio.sleep(0)
            assert not task.done(), "it waits for what it may have begun"
            if cancel_all:
                # It is done again: what was cancelled may not have reached the server.
                await until(lambda: _waiting(postgres) == 2, pause=0.02)
                psql(postgres.url, f"SELECT pg_terminate_backend({first})")
        with pytest.raises(asyncio.CancelledError):
            await task
        if work == "settle":
            found = await journal.find(ACCOUNT, "ref-1")
            assert found is not None
            assert (found.state, found.order_num) == (EntryState.UNKNOWN, number)
        else:
            assert await journal.find(ACCOUNT, number) is not None
    await db.close()


def _waiting(postgres: PostgresServer) -> int:
    query = "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"
    return int(psql(postgres.url, query))


@pytest.mark.parametrize("ended_by", ["server", "client"])
async def test_a_call_ends_when_its_time_is_over_and_no_statement_goes_on(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    at_server, at_client = (0.1, 20.0) if ended_by == "server" else (0.3, 0.1)
    monkeypatch.setattr(postgres_connections, "STATEMENT_SECONDS", at_server)
    journal = PostgresOrderJournal(postgres.url, schema=new_schema())
    await journal.begin(intent())
    monkeypatch.setattr(journal_in_postgres, "LONGEST_CALL", at_client)
    db = await asyncpg.connect(postgres.url)
    async with db.transaction():
        await db.execute(f"LOCK TABLE {named(journal, 'orders')}")
        for work in (journal.begin(intent("ref-2")), journal.find(ACCOUNT, "ref-1")):
            with pytest.raises(JournalUnavailable, match="took too long; find out what holds a"):
                await work
        await until(lambda: not _waiting(postgres), pause=0.02)
    await db.close()
    assert await journal.find(ACCOUNT, "ref-2") is None
    await journal.aclose()


# What is wrong for good.


async def error_of(url: str) -> MioEsimError:
    journal = PostgresOrderJournal(url, schema="nowhere")
    with pytest.raises(MioEsimError) as caught:
        await journal.begin(intent())
    await journal.aclose()
    return caught.value


WRONG = {
    (PASSWORD, "hunter2"): "refuses this user or this password; check them",
    ("/postgres", "/hunter3"): "there is no such database; make it",
    ("shop:", "nobody:"): "refuses this user or this password",
    ("/postgres", "/postgres?sslmode=hunter4"): "URL can't be read; write",
    ("/postgres", "/postgres?sslmode=require"): None,
    ("127.0.0.1", "no-such-host.invalid"): None,
}


@pytest.mark.parametrize("change", WRONG)
async def test_what_trying_later_can_t_help_is_a_matter_of_configuration_without_the_password(
    postgres: PostgresServer, change: tuple[str, str]
) -> None:
    url = postgres.url.replace(*change)
    error = await error_of(url)
    expected = WRONG[change]
    assert isinstance(error, JournalUnavailable if expected is None else ConfigurationError)
    assert expected is None or expected in str(error)
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    for secret in (PASSWORD, "hunter2", "hunter4"):
        assert secret not in str(error)
        lines = "".join(_lines_of_ours(told))
        assert secret not in lines


def _lines_of_ours(told: traceback.TracebackException | None) -> list[str]:
    """Return a traceback with its variables, without the frames of the test itself."""
    if told is None:
        return []
    frames = [frame for frame in told.stack if "test" not in frame.filename]
    shown = [f"{frame.name} {frame.locals}" for frame in frames]
    return [*shown, str(told), *_lines_of_ours(told.__cause__), *_lines_of_ours(told.__context__)]


async def test_a_database_that_has_worked_may_work_again_whatever_it_says(
    journal: PostgresOrderJournal, postgres: PostgresServer
) -> None:
    user, schema = new_schema(), journal._table.schema
    psql(postgres.url, f"CREATE ROLE \"{user}\" LOGIN SUPERUSER PASSWORD 'first'")
    url = postgres.url.replace("shop:", f"{user.replace(' ', '%20')}:")
    mine = PostgresOrderJournal(url.replace(PASSWORD, "first"), schema=schema)
    await mine.begin(intent())
    await mine.aclose()
    psql(postgres.url, f"ALTER ROLE \"{user}\" PASSWORD 'second'")
    with pytest.raises(JournalUnavailable, match="refuses this user or this password"):
        await mine.begin(intent("ref-2"))
    psql(postgres.url, f"ALTER ROLE \"{user}\" PASSWORD 'first'")
    assert await mine.begin(intent("ref-2")) is None
    await mine.aclose()


async def test_a_user_who_may_only_read_and_write_the_tables_is_enough_once_they_are_there(
    journal: PostgresOrderJournal, postgres: PostgresServer
) -> None:
    user, schema = new_schema(), journal._table.schema
    psql(postgres.url, f"CREATE ROLE \"{user}\" LOGIN PASSWORD '{PASSWORD}'")
    url = postgres.url.replace("shop:", f"{user.replace(' ', '%20')}:")
    plain = PostgresOrderJournal(url, schema=schema)
    with pytest.raises(ConfigurationError, match="may not do there what a journal needs; let it"):
        await plain.begin(intent())
    await journal.begin(intent("first"))
    psql(postgres.url, f'GRANT USAGE ON SCHEMA "{schema}" TO "{user}"')
    rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES"
    psql(postgres.url, f'GRANT {rights} IN SCHEMA "{schema}" TO "{user}"')
    entry = intent()
    assert await plain.begin(entry) is None
    assert await placed(plain, entry, EntryState.REFUSED)
    assert await plain.prune(older_than=timedelta(0)) == 1
    await plain.aclose()


async def test_a_standby_is_told(journal: PostgresOrderJournal, postgres: PostgresServer) -> None:
    await journal.begin(intent())
    url = f"{postgres.url}?default_transaction_read_only=on"
    standby = PostgresOrderJournal(url, schema=journal._table.schema)
    with pytest.raises(JournalUnavailable, match="it is read-only, as a standby is; give the URL"):
        await standby.begin(intent("ref-2"))
    await standby.aclose()


FAULTS: list[tuple[Exception, str]] = [
    (ConnectionRefusedError(), "it doesn't answer"),
    (ssl.SSLError("bad"), "no TLS connection"),
    (TimeoutError(), "it took too long"),
    (asyncpg.TooManyConnectionsError("x"), "no connection left"),
    (asyncpg.DiskFullError("x"), "its disk is full"),
    (asyncpg.CannotConnectNowError("x"), "starting or being shut down"),
    (asyncpg.ConnectionDoesNotExistError("x"), "the connection to it broke"),
    (asyncpg.InterfaceError("connection is closed"), "the connection to it broke"),
    (asyncpg.InsufficientPrivilegeError("x"), "may not do there what a journal needs"),
    (asyncpg.SerializationError("x"), "others change the same entries"),
    (asyncpg.SyntaxOrAccessError("odd"), "it says: odd (42000)"),
]


@pytest.mark.parametrize(("error", "said"), FAULTS, ids=lambda one: type(one).__name__)
def test_each_cause_has_its_sentence(error: Exception, said: str) -> None:
    fault = postgres_faults.fault_of(error)
    assert said in fault.what
    assert fault.advice


URLS = [
    "postgresql://shop:hun/ter2@host/db", "postgresql://shop:hun@ter2@host/db",
    "postgresql://shop:hun?ter2@host/db", "postgresql://shop:hunter2", "mysql://shop:hunter2@host",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_a_url_that_can_t_be_read_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="postgresql://") as caught:
        PostgresOrderJournal(url)
    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


def test_what_is_shown_of_a_journal_has_no_password() -> None:
    journal = PostgresOrderJournal("postgresql://shop:hunter2@a:1,b:2/db?password=hunter3")
    shown = f"{journal!r} {journal}"
    assert "in the database a:1,b:2/db, schema 'public'" in shown
    assert "hunter" not in shown


# Connections.


async def test_a_pool_is_used_and_left_open(postgres: PostgresServer) -> None:
    # As PgBouncer needs it.
    pool = await asyncpg.create_pool(postgres.url, min_size=1, max_size=2, statement_cache_size=0)
    journal = PostgresOrderJournal(pool, schema=new_schema())
    assert "of the given pool" in repr(journal)
    entries = [intent(f"ref-{number}") for number in range(10)]
    assert {*await asyncio.gather(*map(journal.begin, entries))} == {None}
    await journal.aclose()
    assert await pool.fetchval("SELECT 1") == 1
    await pool.close()
    with pytest.raises(JournalUnavailable, match="the connection to it broke"):
        await journal.begin(intent("ref-x"))
    with pytest.raises(ConfigurationError, match="takes a postgresql:// URL, or a pool"):
        PostgresOrderJournal(7)


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
async def test_a_limit_of_spending_holds_whatever_the_database_s_level_of_isolation_is(
    postgres: PostgresServer, level: str
) -> None:
    pool = await asyncpg.create_pool(
        postgres.url,
        min_size=1,
        max_size=4,
        server_settings={"default_transaction_isolation": level},
    )
    journal = PostgresOrderJournal(pool, schema=new_schema())
    entries = [intent(f"ref-{number}", expected_price=Decimal(10)) for number in range(16)]
    ends = await asyncio.gather(
        *[journal.begin_within(one, limit=Decimal(30), since=one.created_at) for one in entries],
        return_exceptions=True,
    )
    await pool.close()
    assert ends.count(None) == 3
    assert sum(isinstance(end, SpendLimitReached) for end in ends) == 13


def connections_of(postgres: PostgresServer, name: str) -> int:
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'"
    return int(psql(postgres.url, query))


async def test_few_connections_are_opened_and_none_is_left_when_the_client_is_closed(
    sandbox: Sandbox, postgres: PostgresServer
) -> None:
    name = new_schema()
    url = f"{postgres.url}?application_name={name.replace(' ', '%20')}"
    journal = PostgresOrderJournal(url, schema=name)
    async with sandbox.client(order_journal=journal) as client:
        await asyncio.gather(*(buy(client) for _ in range(30)))
        assert 1 <= connections_of(postgres, name) <= postgres_connections.MAX_CONNECTIONS
    await until(lambda: not connections_of(postgres, name), pause=0.02)
    assert len(sandbox.orders) == 30


async def test_a_connection_that_nobody_uses_is_closed_after_a_while(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = new_schema()
    monkeypatch.setattr(postgres_connections, "IDLE_SECONDS", 0.05)
    url = f"{postgres.url}?application_name={name.replace(' ', '%20')}"
    journal = PostgresOrderJournal(url, schema=name)
    await journal.begin(intent())
    async with asyncio.timeout(SECONDS):
        while await asyncio.to_thread(connections_of, postgres, name):
            await asyncio.sleep(0.01)
    assert await journal.begin(intent("ref-2")) is None
    await journal.aclose()


def test_one_journal_works_in_many_loops_and_threads(postgres: PostgresServer) -> None:
    journal = PostgresOrderJournal(postgres.url, schema=new_schema())
    came: list[JournalEntry | None] = []

    async def begin(number: int) -> None:
        came.append(await journal.begin(intent(f"ref-{number}")))
        await journal.aclose()

    for number in range(2):
        asyncio.run(begin(number))
    threads = [threading.Thread(target=lambda n=n: asyncio.run(begin(n))) for n in range(2, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert came == [None] * 5


async def test_a_fork_opens_connections_of_its_own(journal: PostgresOrderJournal) -> None:
    assert await journal.begin(intent()) is None
    read_end, write_end = os.pipe()
    if not (child := os.fork()):
        # A new thread, since a loop seems to run in this one.
        def work() -> None:
            came = asyncio.run(journal.begin(intent("ref-2")))
            os.write(write_end, b"begun" if came is None else b"taken")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        os._exit(0)
    os.close(write_end)
    said = await asyncio.to_thread(os.read, read_end, 5)
    os.close(read_end)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert said == b"begun"
    assert await journal.find(ACCOUNT, "ref-2") is not None, "the parent's connection works"


WITHOUT_ASYNCPG = """
import os, sys
sys.modules["asyncpg"] = None
import mioesim_async
from mioesim_async import *
assert "OrderJournal" in globals() and "PostgresOrderJournal" not in globals()
try:
    mioesim_async.PostgresOrderJournal
except ModuleNotFoundError as error:
    print(error)
os.environ |= {"MIOESIM_ORDER_JOURNAL": "postgresql://h", "MIOESIM_PHONE_NUMBER": "1",
    "MIOESIM_PASSWORD": "made-up", "MIOESIM_SECRET_KEY": "made-up"}
try:
    MioEsimClient.from_env()
except mioesim_async.errors.ConfigurationError as error:
    print(error)
"""


async def test_without_the_extra_everything_else_works_and_the_message_names_it() -> None:
    async with spawned(WITHOUT_ASYNCPG) as process, asyncio.timeout(SECONDS):
        out, _ = await process.communicate()
    said = "needs asyncpg; install it with: pip install 'mioesim_async[postgres]'"
    assert process.returncode == 0
    assert out.decode().count(said) == 2
