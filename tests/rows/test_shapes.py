"""The fast way of reading rows against the slow, obvious one."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

from hypothesis import given, settings, strategies as st
from slow_reader import RULES, slow_card

from mioesim_async.errors import ProtocolError
from mioesim_async.models.cards import CardStatus
from mioesim_async.rows import cards, compiled
from mioesim_async.rows.layout import read_row
from mioesim_async.slices import at_once
from mioesim_async.wire.envelope import parse_envelope

ICCIDS = [f"8985{number:015d}" for number in range(6)]

KEYS = [name for _, names, _, _ in RULES for name in names]
KEYS += ["ICCID", "usedMb", "used_mb", "DPSTATUS", "begin_date", "SKUID", "apn", "validity", "Data"]

VALUES = st.sampled_from(
    [None, "", "0", "12.5", " 7 ", "1e3", "nan", "1_0", "\uff11\uff12", "5.", "-3",
     ".", "9" * 400, 0, 45,
     2.5, 1e308, -0.0, True, False, [], {}, "6GB", "6 parsec", "ACTIVE", "enable", "Odd", ICCIDS[0],
     "2024-12-24 17:30:14.0", "2024-12-24 17:30:14", "2024-12-24T17:30:14.5", "2024-12-24",
     "12/24/2024", "2024-02-30 10:00:00.0", "2024-W01-1 08:30:14.0", "2024-12-24 17:30:14,0",
     "2024-12-24 17:30:14.Z", "2024-12-24 24:00:00.0", "0001-01-01 00:00:00.0",
     "2024-12-24x17:30:14.0", " 2024-12-24 17:30:14.0 ", "EP20240124000013"]
)  # fmt: skip
ROWS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8)

CLEAN: dict[str, st.SearchStrategy[Any]] = {
    "dpStatus": st.sampled_from(["ACTIVE", "Enable", "Odd", None, ""]),
    "usedMB": st.sampled_from(["12.5", "0", None, 3, 2.5]),
    "remainingMB": st.sampled_from([1.5, "2.5", "6GB", None]),
    "data": st.sampled_from(["6GB", "1GB", None]),
    "startDate": st.sampled_from(["2024-12-24 17:30:14.0", "2024-12-24", None, ""]),
    "endDate": st.sampled_from(["2024-12-25", "12/24/2024", None]),
    "orderNum": st.sampled_from(["EP1", 5, None]),
    "skuId": st.sampled_from([45, "45", None]),
    "apn": VALUES,
}
ALIKE = st.sampled_from([1, True, 1.0, "1", 0, False, ""])
"""Values that Python takes for the same, and that are read differently."""


def rows_of_one_shape(keys: list[str]) -> st.SearchStrategy[list[dict[str, Any]]]:
    values = st.tuples(*[CLEAN[key] | ALIKE for key in keys])
    row = values.map(lambda values: {"iccid": ICCIDS[0], **dict(zip(keys, values, strict=True))})
    return st.lists(row, min_size=2, max_size=8)


ONE_SHAPE = st.lists(st.sampled_from(sorted(CLEAN)), unique=True).flatmap(rows_of_one_shape)
CLEAN_ROWS = st.fixed_dictionaries({"iccid": st.sampled_from(ICCIDS)}, optional=CLEAN)


def plainly(row: dict[str, Any]) -> CardStatus | None:
    try:
        return read_row(copy.deepcopy(row), CardStatus)
    except ProtocolError:
        return None


@settings(max_examples=600)
@given(row=ROWS)
def test_a_row_of_any_spelling_is_read_as_the_slow_reader_does(row: dict[str, Any]) -> None:
    expected = slow_card(row)
    assert plainly(row) == expected
    cards.usual_rows.clear()
    for _ in range(2):  # the second time, what was read before is remembered
        fast = cards.usual_rows.read([copy.deepcopy(row)])
        assert fast is None or fast == [expected]


@given(rows=st.lists(CLEAN_ROWS, min_size=1, max_size=6))
def test_rows_that_hold_no_surprise_are_all_read_the_fast_way(rows: list[dict[str, Any]]) -> None:
    cards.usual_rows.clear()
    fast = cards.usual_rows.read(copy.deepcopy(rows))

    assert fast is not None
    for row in rows:
        card = slow_card(row)
        assert card in fast
        fast.remove(card)
    assert fast == []


@settings(max_examples=600)
@given(rows=ONE_SHAPE)
def test_no_row_is_taken_for_the_one_before_it(rows: list[dict[str, Any]]) -> None:
    expected = [slow_card(row) for row in rows]
    fast = cards.usual_rows.read(copy.deepcopy(rows))
    assert fast is None or fast == expected


@given(
    rows=st.lists(st.one_of(CLEAN_ROWS, ROWS, VALUES), max_size=5),
    asked=st.sets(st.sampled_from(ICCIDS)),
)
def test_a_batch_is_sorted_alike_the_fast_and_the_plain_way(
    rows: list[Any], asked: set[str]
) -> None:
    envelope = parse_envelope(json.dumps({"code": 0, "data": rows}).encode())
    wanted = dict.fromkeys(sorted(asked))
    plain = at_once(cards.read_any_batch(envelope, wanted))
    fast = cards.read_clean_batch(envelope, wanted) or plain

    assert fast.cards == plain.cards
    assert {one: str(error) for one, error in fast.bad.items()} == {
        one: str(error) for one, error in plain.bad.items()
    }
    assert (fast.without_iccid, fast.unasked) == (plain.without_iccid, plain.unasked)


def test_cards_without_more_fields_share_no_extra() -> None:
    one, other = cards.usual_rows.read([{"iccid": ICCIDS[0]}, {"iccid": ICCIDS[1]}]) or []
    one.extra["x"] = 1

    assert other.extra == {}
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one


def test_no_number_of_shapes_fills_memory() -> None:
    for number in range(3 * compiled.MAX_SHAPES):
        row = {"iccid": ICCIDS[0], f"odd{number}": 1}
        fast = cards.usual_rows.read([row])
        assert fast in (None, [CardStatus(ICCIDS[0], extra={f"odd{number}": 1})])
    readers = compiled.ShapeReaders(CardStatus, dict.fromkeys(["a", "b"]))
    for number in range(3 * compiled.MAX_SHAPES):
        readers._spellings = {f"k{number}": None}
        readers.read([{f"k{number}": 1}])
    assert len(readers) == compiled.MAX_SHAPES


def test_no_word_of_the_host_gets_into_the_source() -> None:
    key = "'); raise SystemExit #\n\ud800"
    assert cards.usual_rows.read([{"iccid": ICCIDS[0], key: 1}]) in (
        None, [CardStatus(ICCIDS[0], extra={key: 1})],
    )  # fmt: skip
