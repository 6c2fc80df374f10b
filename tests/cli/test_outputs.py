"""What ``mioesim query`` writes to files."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from mioesim_async.cli import writers
from mioesim_async.cli.printing import printable
from mioesim_async.cli.writers import CsvWriter, Layout, without_formula
from mioesim_async.clock import GMT8
from mioesim_async.errors import InvalidRequest
from mioesim_async.models.cards import CardOutcome, CardStatus, DpStatus

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", "=1+1", 'a"b', "a,b", "a\nb", "a\r", "\ud800", "EP2026", "-", "'", " x ", "٣"]
)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
MOMENTS = st.none() | st.datetimes(timezones=st.just(GMT8))
CARDS = st.builds(
    CardStatus,
    iccid=st.just("8985000000000000001"),
    dp_status=st.none() | st.sampled_from([*DpStatus]) | TEXTS.map(DpStatus),
    used_mb=NUMBERS,
    remaining_mb=NUMBERS,
    total_mb=NUMBERS,
    starts_at=MOMENTS,
    ends_at=MOMENTS,
    order_num=st.none() | TEXTS,
    sku_id=st.none() | st.integers(),
)
OUTCOMES = (
    st.builds(CardOutcome, st.just("8985000000000000001"), CARDS)
    | st.builds(CardOutcome, TEXTS)
    | st.builds(CardOutcome, TEXTS, st.none(), TEXTS.map(InvalidRequest))
)


def row(outcome: CardOutcome) -> list[Any]:
    """What a row says, cell by cell, the slow and obvious way."""
    iccid, card, error = outcome.iccid, outcome.card, outcome.error
    shown = f'="{iccid}"' if iccid.isdigit() else without_formula(printable(iccid))
    if card is None:
        result = "missing" if error is None else "failed"
        return [
            shown,
            result,
            *[None] * 8,
            None if error is None else without_formula(printable(str(error))),
        ]
    times = [None if at is None else at.isoformat(" ") for at in (card.starts_at, card.ends_at)]
    amounts = [card.used_mb, card.remaining_mb, card.total_mb]
    texts = [without_formula(printable(text)) for text in (card.dp_status, card.order_num)]
    return [shown, "found", texts[0], *amounts, *times, texts[1], card.sku_id, None]


@pytest.fixture
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers.time, "time", lambda: 1_767_225_600.5)


NOW = "2026-01-01 00:00:00+00:00"


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OUTCOMES, max_size=6))
@pytest.mark.usefixtures("at_noon")
def test_csv_files_hold_what_the_csv_module_writes(outcomes: list[CardOutcome]) -> None:
    written, expected = io.StringIO(), io.StringIO()
    writer = CsvWriter(written, Layout())
    reference = csv.writer(expected, lineterminator="\n")
    reference.writerow(written.getvalue().strip().split(","))
    for outcome in outcomes:
        writer.write(outcome, ())
        reference.writerow([*row(outcome), NOW])
    assert written.getvalue() == expected.getvalue()


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"), ("\uff1d1+1", "'\uff1d1+1"), ("@SUM(1)", "'@SUM(1)"), ("-1", "'-1"),
        ("a;=1+1", "a;'=1+1"), ("a;b", "a;b"), ("a=b", "a=b"), ("", ""), (None, None),
    ],
)  # fmt: skip
def test_no_cell_is_a_formula_in_any_spreadsheet(cell: str | None, written: str | None) -> None:
    assert without_formula(cell) == written
