"""The same file or reference once more: recognised however it is written, and counted once."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from command import mioesim

from mioesim_async.sandbox import Fault, Sandbox
from mioesim_async.sandbox.catalogue import PLANS, SKUS

LPA = "LPA:1$"
PLAN = ("45", "441")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "lines.csv"


def told_of(
    file: Path, server: Sandbox, *more: object, kind: str = "order"
) -> tuple[int, list[dict[str, Any]]]:
    """Buy a file, and return the exit status and what was told of each line."""
    done = mioesim(
        kind, "--file", file, "--max-spend", 1000, "--yes", "--json", *more, sandbox=server
    )
    return done.status, json.loads(done.out)["lines"]


@pytest.mark.parametrize(
    ("kind", "first", "again"),
    [
        ("order", "price_id,count\n441,1\n", "price_id,count\n0441,\n"),
        ("order", "price_id\n441\n", "price_id,count,send email\n441,01,FALSE\n"),
        (
            "order",
            "price_id,email,send_email\n441,a@example.com,true\n",
            "price_id;email;send email\n441;a@example.com;YES\n",
        ),
        (
            "renew",
            "price_id,iccid\n441,8985-2000-0000-0000-001\n",
            'price_id,iccid\n441,="8985200000000000001"\n',
        ),
    ],
)
def test_a_line_that_is_written_otherwise_has_the_same_reference(
    server: Sandbox, file: Path, kind: str, first: str, again: str
) -> None:
    references: list[str] = []
    for text in (first, again):
        separator = max(",;", key=text.count)
        file.write_text(
            "".join(
                f"{cell}{separator}{line}\n"
                for cell, line in zip(("sku_id", "045"), text.splitlines(), strict=True)
            )
        )
        done = mioesim(kind, "--file", file, "--dry-run", "--json", sandbox=server)
        references += [line["reference"] for line in json.loads(done.out)]

    assert len(references) == 2
    assert len(set(references)) == 1


def test_physical_sims_are_the_same_however_they_are_separated(server: Sandbox, file: Path) -> None:
    cards = ["8985200000000000001", "8985200000000000002"]
    references = set[str]()
    for text in (
        " ".join(cards),
        "; ".join(reversed(cards)),
        f"{cards[0][:4]}-{cards[0][4:]};{cards[1]}",
    ):
        file.write_text(f'sku_id,price_id,count,dp_id,iccids\n45,441,2,11,"{text}"\n')
        done = mioesim("order", "--file", file, "--dry-run", "--json", sandbox=server)
        references |= {line["reference"] for line in json.loads(done.out)}

    assert len(references) == 1


# What earlier runs spent.


def test_a_line_of_before_that_has_no_price_today_counts_against_the_limit(
    server: Sandbox, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("sku_id,price_id,reference\n45,441,gone-1\n")
    assert told_of(file, server)[0] == 0
    # Today the catalogue does not have the plan any more.
    monkeypatch.setitem(SKUS, 45, evolve(SKUS[45], plans=()))
    file.write_text("sku_id,price_id,reference\n45,441,gone-1\n71,441,new-1\n")
    done = mioesim("order", "--file", file, "--max-spend", 20, "--yes", sandbox=server)

    assert done.status == 1
    assert [order.other_order_id for order in server.orders] == ["gone-1"]
    assert "after 12.10 for lines of earlier runs" in done.err
    assert "--max-spend was reached at 12.10; not sent: line 3" in done.err


def test_each_line_of_before_counts_once_and_as_it_was_priced_then(
    server: Sandbox, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("sku_id,price_id,reference\n45,441,then-1\n45,441,then-2\n")
    assert told_of(file, server)[0] == 0
    file.write_text("sku_id,price_id,reference\n45,441,then-1\n45,441,then-2\n45,441,then-3\n")
    monkeypatch.setitem(PLANS, 441, evolve(PLANS[441], price=10))
    enough = ("order", "--file", file, "--yes", "--max-spend")
    refused = mioesim(*enough, "34.19", sandbox=server)
    bought = mioesim(*enough, "34.20", sandbox=server)

    assert (refused.status, bought.status) == (1, 0)
    assert len(server.orders) == 3


def test_a_line_of_before_is_told_with_its_cards_though_the_plan_is_gone(
    server: Sandbox, file: Path, tmp_path: Path
) -> None:
    file.write_text("sku_id,price_id,reference\n45,441,kept-1\n")
    assert told_of(file, server)[0] == 0
    (order,) = server.orders
    server.faults.add(Fault.refuse(-8, "no"), "getPackages", times=1)
    result = tmp_path / "result.csv"
    status, (line,) = told_of(file, server, "--show-activation", "--result", result)

    assert (status, line["status"]) == (0, "placed before")
    assert (line["order_num"], line["iccids"]) == (order.order_num, order.iccids)
    with result.open(newline="") as rows:
        (row,) = csv.DictReader(rows)
    assert row["activation"].startswith(LPA)


def test_a_line_of_before_that_was_never_read_is_read_again_and_not_bought(
    server: Sandbox, file: Path
) -> None:
    file.write_text("sku_id,price_id,reference\n45,441,unread-1\n")
    server.faults.add(Fault.replaced(b'{"code":0,"data":"EP77"}'), "addEsimOrder")
    for _ in range(2):
        status, (line,) = told_of(file, server)
        assert (status, line["status"], line["order_num"]) == (4, "placed, not read", "EP77")

    assert len([one for one in server.requests if one.endpoint == "addEsimOrder"]) == 1


# A reference that is that of another order.


def test_previews_say_what_the_purchase_would_say_of_a_used_reference(
    server: Sandbox, file: Path
) -> None:
    buy = ("order", *PLAN, "--reference", "clash-1")
    assert mioesim(*buy, "--yes", sandbox=server).status == 0
    dry = mioesim(*buy, "--count", 2, "--dry-run", sandbox=server)
    real = mioesim(*buy, "--count", 2, "--yes", sandbox=server)
    file.write_text("sku_id,price_id,count,reference\n45,441,2,clash-1\n")
    bulk = mioesim("order", "--file", file, "--dry-run", "--json", sandbox=server)
    status, (line,) = told_of(file, server)

    for done in (dry, real, bulk):
        assert done.status == 1
        assert "reference clash-1 was used before with other parameters" in done.err
    assert json.loads(bulk.out)[0]["would_send"] is False
    assert (status, line["status"]) == (1, "failed")
    assert len(server.orders) == 1


def test_also_a_reference_whose_order_was_refused_stays_with_its_parameters(
    server: Sandbox,
) -> None:
    server.faults.add(Fault.refuse(3, "no"), "addEsimOrder")
    buy = ("order", *PLAN, "--reference", "refused-1")
    assert mioesim(*buy, "--yes", sandbox=server).status == 1
    other = mioesim(*buy, "--count", 2, "--dry-run", sandbox=server)
    same = mioesim(*buy, "--dry-run", sandbox=server)

    assert (other.status, same.status) == (1, 0)
    assert "used before with other parameters" in other.err
