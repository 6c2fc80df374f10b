"""A journal's file that vanishes under a running client: nothing is bought until it is back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from journals import ACCOUNT, files_beside, intent
from shopping import buy
from waiting import until

from mioesim_async import MioEsimClient, OrderJournal, errors
from mioesim_async.errors import JournalUnavailable
from mioesim_async.journal import EntryState, table
from mioesim_async.sandbox import Sandbox


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def put_a_copy(path: Path) -> None:
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.replace(path)


def put_an_empty_file(path: Path) -> None:
    path.unlink()
    path.touch()


def put_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_a_link(path: Path) -> None:
    move(path)
    path.symlink_to("moved.db")


def put_text(path: Path) -> None:
    path.unlink()
    path.write_text("dear diary")


def write_over(path: Path) -> None:
    path.write_text("dear diary\n" * 1000)


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def delete_its_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


WAYS = [
    delete, move, put_a_copy, put_an_empty_file, put_a_directory, put_a_link, put_text,
    write_over, truncate, delete_its_directory,
]  # fmt: skip


def listing(path: Path) -> dict[str, tuple[int, int, int]]:
    if not path.parent.exists():
        return {}
    return {
        place.name: (place.lstat().st_ino, place.lstat().st_mode, place.lstat().st_size)
        for place in path.parent.iterdir()
    }


@pytest.mark.parametrize("vanish", [way for way in WAYS if way not in (write_over, truncate)])
async def test_a_file_that_vanishes_while_it_is_open_is_refused_and_not_made_anew(
    tmp_path: Path, vanish: Callable[[Path], None]
) -> None:
    journal = OrderJournal(tmp_path / "state" / "orders.db")
    await journal.begin(intent())
    assert "orders.db-wal" in files_beside(journal.path), "it is open"
    vanish(journal.path)
    for work in (journal.begin(intent("ref-2")), journal.find(ACCOUNT, "x")):
        with pytest.raises(JournalUnavailable, match=r"nothing was sent, try later: .* vanished"):
            await work
    with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
        assert b"ref-2" not in journal.path.read_bytes()


@pytest.mark.parametrize("vanish", WAYS)
async def test_a_file_that_vanished_is_refused_and_not_made_anew(
    tmp_path: Path, vanish: Callable[[Path], None]
) -> None:
    journal = OrderJournal(tmp_path / "state" / "orders.db")
    await journal.begin(intent())
    await journal.close_idle()
    vanish(journal.path)
    before = listing(journal.path)
    for work in (journal.begin(intent("ref-2")), journal.find(ACCOUNT, "x"), journal.accounts()):
        with pytest.raises(
            JournalUnavailable, match=r"nothing was sent, try later: .* vanished"
        ) as caught:
            await work
        assert "put that file back" in str(caught.value)
        assert "restart" in str(caught.value)
    assert listing(journal.path) == before


async def test_it_goes_on_when_the_same_file_is_back(tmp_path: Path) -> None:
    journal = OrderJournal(tmp_path / "orders.db")
    await journal.begin(intent())
    move(journal.path)
    with pytest.raises(JournalUnavailable):
        await journal.begin(intent("ref-2"))
    (tmp_path / "moved.db").rename(journal.path)
    assert await journal.begin(intent("ref-2")) is None
    assert len(await journal.open_entries()) == 2


async def test_a_restart_makes_a_new_file_and_who_goes_on_refuses_it(tmp_path: Path) -> None:
    # The system may give the new file the inode of the deleted one.
    for number in range(20):
        journal = OrderJournal(tmp_path / f"{number}.db")
        await journal.begin(intent())
        await journal.close_idle()
        journal.path.unlink()
        assert await OrderJournal(journal.path).begin(intent()) is None
        for _ in range(2):
            with pytest.raises(JournalUnavailable, match="vanished"):
                await journal.begin(intent())


async def test_what_is_written_to_a_file_that_vanishes_meanwhile_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = OrderJournal(tmp_path / "orders.db")
    await journal.begin(intent())
    put = table.put

    def vanishing(db: Any, row: tuple[Any, ...]) -> None:
        put(db, row)
        with suppress(FileNotFoundError):
            journal.path.rename(tmp_path / "moved.db")

    monkeypatch.setattr(table, "put", vanishing)
    with pytest.raises(JournalUnavailable, match="vanished"):
        await journal.begin(intent("ref-2"))
    with pytest.raises(JournalUnavailable, match="vanished"):
        await journal.find(ACCOUNT, "ref-1")


async def test_a_new_file_that_vanishes_at_once_is_not_made_anew_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = OrderJournal(tmp_path / "orders.db")
    put = table.put

    def vanishing(db: Any, row: tuple[Any, ...]) -> None:
        put(db, row)
        journal.path.unlink()

    monkeypatch.setattr(table, "put", vanishing)
    for _ in range(2):
        with pytest.raises(JournalUnavailable, match="vanished"):
            await journal.begin(intent())
        assert not journal.path.exists()


async def test_nothing_is_bought_while_the_file_is_gone(
    sandbox: Sandbox, buyer: MioEsimClient, journal: OrderJournal
) -> None:
    await buy(buyer, "before")
    move(journal.path)
    with pytest.raises(JournalUnavailable, match="nothing was sent") as caught:
        await buy(buyer, "meanwhile")
    assert caught.value.other_order_id == "meanwhile"
    assert caught.value.was_placed is None
    assert len(sandbox.orders) == 1
    assert not journal.path.exists()
    journal.path.with_name("moved.db").rename(journal.path)
    await buy(buyer, "meanwhile")
    assert len(sandbox.orders) == 2


async def test_an_answer_that_finds_the_file_gone_is_recorded_when_it_is_back(
    sandbox: Sandbox, journal: OrderJournal, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.clock._skip = False
    answer = sandbox._vendor.answer

    def vanishing(path: str, params: dict[str, str], fault: Any) -> Any:
        if path.endswith("addEsimOrder"):
            move(journal.path)
        return answer(path, params, fault)

    async with sandbox.client(order_journal=journal) as client:
        await client.login()
        sandbox._vendor.answer = vanishing  # type: ignore[method-assign]
        order = await buy(client, "shop-1")
        assert "could not record that reference shop-1 is placed" in caplog.text
        assert "nothing was sent" not in caplog.text, "it was"
        with pytest.raises(errors.JournalUnavailable):
            await buy(client, "shop-2")
        assert (await buy(client, "shop-1")).order_num == order.order_num, "it knows the answer"
        assert len(sandbox.orders) == 1
        journal.path.with_name("moved.db").rename(journal.path)
        await until(lambda: bool(sandbox.clock.advance(5)) or "has now recorded" in caplog.text)
        entry = await journal.find(client.account, "shop-1")
    assert entry is not None
    assert (entry.state, entry.order_num) == (EntryState.PLACED, order.order_num)
