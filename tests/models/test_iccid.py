"""ICCIDs as people paste them, and replies sorted by ICCID."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from mioesim_async.api.cards import Cards
from mioesim_async.errors import InvalidRequest, ProtocolError
from mioesim_async.models.iccid import MAX_DIGITS, MIN_DIGITS, check_iccids, clean_iccid
from mioesim_async.rows.cards import BatchReply, read_any_batch, read_clean_batch
from mioesim_async.slices import at_once
from mioesim_async.wire.endpoints import Endpoint
from mioesim_async.wire.envelope import Envelope, parse_envelope

ICCID = "8985203104000042611"
OTHER = "8985203104000042629"
TWENTY = "89852000000000000017"
"""Twenty digits: as a JSON number, too large for 64 bits."""
MATCHING_ID = "MADE-UP-MATCHING-ID"
LPA = f"LPA:1$smdp.example.test${MATCHING_ID}"

iccids = st.text(alphabet="0123456789", min_size=MIN_DIGITS, max_size=MAX_DIGITS)
noise = st.text(alphabet=" \t\n-\u2010\u2013\u2014\u2212\u00a0\u200b\ufeff", max_size=4)


@pytest.mark.parametrize(
    "raw",
    [
        ICCID,
        f" {ICCID} ",
        f"{ICCID}\n",
        "8985 2031 0400 0042 611",
        "8985-2031-0400-0042-611",
        f"{ICCID}F",
        f"{ICCID}f",
        f"{ICCID}FF",
        f"{ICCID} F",
        f"{ICCID}F ",
        f"\ufeff{ICCID}",
        f"\u200e{ICCID}\u200f",
        f"\u200b{ICCID}\u2060",
        "8985\u00a02031\u202f0400\u20070042\u3000611",
        "8985\u20102031\u20130400\u20140042\u2212611",
    ],
)
def test_what_people_paste_is_cleaned_to_the_digits(raw: str) -> None:
    assert clean_iccid(raw) == ICCID


@pytest.mark.parametrize(
    "raw", ["1234567890123456", "0000000000000000", "8985203104000042612", "9" * 22]
)
def test_neither_the_prefix_89_nor_the_luhn_digit_is_asked_for(raw: str) -> None:
    assert clean_iccid(raw) == raw


@given(iccid=iccids, data=st.data())
def test_noise_anywhere_changes_nothing(iccid: str, data: st.DataObject) -> None:
    raw = "".join(data.draw(noise) + digit for digit in iccid)
    raw += data.draw(noise) + data.draw(st.sampled_from(["", "F", "f", "FF"])) + data.draw(noise)

    assert clean_iccid(raw) == iccid


@given(raw=st.text() | st.text(alphabet="0123456789Ff -\u200b\u0661e+.", min_size=14, max_size=30))
def test_cleaning_twice_is_cleaning_once_and_leaves_ascii_digits(raw: str) -> None:
    try:
        cleaned = clean_iccid(raw)
    except InvalidRequest:
        return
    assert clean_iccid(cleaned) == cleaned
    assert cleaned.isascii()
    assert cleaned.isdigit()
    assert MIN_DIGITS <= len(cleaned) <= MAX_DIGITS


class Text(str):
    """Text of another class, as frameworks pass it."""

    __slots__ = ()


def test_text_of_another_class_is_cleaned_to_plain_text() -> None:
    assert clean_iccid(Text(ICCID)) == ICCID
    assert type(clean_iccid(Text(ICCID))) is str


@pytest.mark.parametrize(
    "raw",
    [
        ICCID.translate({ord(digit): 0x0660 + int(digit) for digit in "0123456789"}),
        ICCID.translate({ord(digit): 0xFF10 + int(digit) for digit in "0123456789"}),
        ICCID[:-1] + "\u00b2",
        ICCID[:-1] + "\u0661",
    ],
    ids=ascii,
)
def test_digits_of_other_scripts_are_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest, match="only digits may remain"):
        clean_iccid(raw)


@pytest.mark.parametrize(
    "raw", ["8.98E+18", "8.98520310400004E+18", "8,98E+18", "8.98e18", " 9E+18 ", "8.98E18"]
)
def test_what_a_spreadsheet_made_of_an_iccid_is_refused_with_advice(raw: str) -> None:
    with pytest.raises(InvalidRequest, match="spreadsheet") as caught:
        clean_iccid(raw)
    assert "export the column as text" in str(caught.value)
    assert raw in str(caught.value)


@pytest.mark.parametrize(
    "raw", [int(ICCID), 8.98e18, True, None, ICCID.encode(), [ICCID], {"iccid": ICCID}], ids=repr
)
def test_what_is_no_text_is_refused_with_its_type_and_not_its_value(raw: object) -> None:
    with pytest.raises(InvalidRequest, match="pass ICCIDs as text") as caught:
        clean_iccid(raw)
    assert type(raw).__name__ in str(caught.value)
    assert ICCID not in str(caught.value)


@pytest.mark.parametrize(
    ("count", "fits"), [(1, False), (15, False), (16, True), (20, True), (22, True), (23, False)]
)
def test_an_iccid_has_16_to_22_digits(count: int, fits: bool) -> None:
    raw = "8" * count
    if fits:
        assert clean_iccid(raw) == raw
    else:
        with pytest.raises(InvalidRequest, match=rf"has {count} digits; an ICCID has 16 to 22"):
            clean_iccid(raw)


def test_length_is_counted_after_cleaning() -> None:
    assert clean_iccid(" - ".join("8" * 16)) == "8" * 16
    with pytest.raises(InvalidRequest, match="has 15 digits"):
        clean_iccid("8" * 15 + "F")


@pytest.mark.parametrize(
    "raw",
    ["", " ", "-", "F", "FFFF", "iccid", f"F{ICCID}", f"89F{ICCID}", f"{ICCID},{ICCID}", "0x89"],
)
def test_what_is_no_iccid_is_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest, match="is not an ICCID"):
        clean_iccid(raw)


@pytest.mark.parametrize(
    "raw",
    [
        LPA,
        LPA.lower(),
        LPA.removeprefix("LPA:"),
        f"  {LPA}  ",
        f"lpa {MATCHING_ID}",
        f"https://esimsetup.apple.com/esim_qrcode_provisioning?carddata={LPA}",
    ],
)
def test_an_activation_code_in_the_wrong_place_is_never_repeated(raw: str) -> None:
    for refuse in (clean_iccid, lambda item: check_iccids([ICCID, item])):
        with pytest.raises(InvalidRequest, match="an activation code is not an ICCID") as caught:
            refuse(raw)
        error = caught.value
        told = (str(error) + repr(error) + repr(error.faults)).upper()
        assert MATCHING_ID not in told
        assert "SMDP.EXAMPLE" not in told
        assert error.__cause__ is None
        assert error.__context__ is None


def test_a_long_item_is_shown_shortened() -> None:
    with pytest.raises(InvalidRequest) as caught:
        clean_iccid("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_check_returns_all_cleaned_in_order_with_repeats() -> None:
    assert check_iccids([f"{ICCID}F", OTHER, f" {ICCID}"]) == [ICCID, OTHER, ICCID]
    assert check_iccids(iter([ICCID])) == [ICCID]
    assert check_iccids([]) == []


def test_check_names_every_bad_item_with_its_position() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_iccids(["bad-one", ICCID, 42, "123", ICCID, "8.98E+18"])

    faults = caught.value.faults
    assert [fault.split(":")[0] for fault in faults] == ["item 0", "item 2", "item 3", "item 5"]
    assert "'bad-one'" in faults[0]
    assert "int" in faults[1]
    assert "3 digits" in faults[2]
    assert "spreadsheet" in faults[3]
    assert all(fault in str(caught.value) for fault in faults)


def test_a_column_of_nonsense_gives_a_message_that_can_still_be_read() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_iccids(f"bad {position}" for position in range(10_000))

    faults = caught.value.faults
    assert "'bad 19'" in faults[19]
    assert len(faults) == 10_000
    assert str(caught.value).endswith("and 9980 more")


@given(items=st.lists(iccids | st.sampled_from(["", "x", "1"]), max_size=30))
def test_check_passes_exactly_when_every_item_is_an_iccid(items: list[str]) -> None:
    bad = [item for item in items if len(item) < MIN_DIGITS]
    if not bad:
        assert check_iccids(items) == items
        return
    with pytest.raises(InvalidRequest) as caught:
        check_iccids(items)
    assert len(caught.value.faults) == min(len(bad), 21)


def envelope_of(data: Any, *, exact: bool = False) -> Envelope:
    """Send data through JSON, as the vendor does."""
    return parse_envelope(json.dumps({"code": 0, "data": data}).encode(), exact=exact)


def batch(data: Any, *asked: str) -> BatchReply:
    """Read a batch reply about these ICCIDs."""
    envelope, wanted = envelope_of(data), dict.fromkeys(asked or (ICCID, OTHER))
    return read_clean_batch(envelope, wanted) or at_once(read_any_batch(envelope, wanted))


ONE, TWO = {"iccid": ICCID, "usedMB": "1"}, {"iccid": OTHER, "usedMB": "2"}
MAP = {ICCID: {"usedMB": "1"}, OTHER: {"usedMB": "2"}}


@pytest.mark.parametrize(
    "data",
    [
        [ONE, TWO],
        [TWO, None, ONE],
        MAP,
        {ICCID: ONE, OTHER: TWO},
        {ICCID: [ONE], OTHER: [{"usedMB": "2"}]},
        {"list": [ONE, TWO]},
        {"total": 2, "rows": [ONE, TWO]},
        {"data": MAP},
        {"data": {"records": [ONE, TWO]}},
        [{"ICCID": ICCID, "usedMb": 1}, {"iccId": OTHER, "usedMb": 2}],
        [{"iccid": int(ICCID), "usedMb": 1}, {"iccid": f"{OTHER}F", "usedMb": 2}],
        {"0": {"IccId": ICCID, "usedMb": 1}, "1": {"I_CCID": OTHER, "usedMb": 2}},
    ],
)
def test_every_shape_of_a_batch_gives_the_same_cards(data: Any) -> None:
    reply = batch(data)

    assert {iccid: card.used_mb for iccid, card in reply.cards.items()} == {ICCID: 1.0, OTHER: 2.0}
    assert all(card.iccid == iccid for iccid, card in reply.cards.items())
    assert (reply.bad, reply.without_iccid, reply.unasked) == ({}, 0, 0)


def test_a_single_object_is_a_batch_of_one() -> None:
    assert batch(ONE, ICCID).cards[ICCID].used_mb == 1.0


@pytest.mark.parametrize(
    "data", [None, "", [], {}, {ICCID: None}, {"total": 0, "rows": []}, [None], {"rows": None}]
)
def test_a_batch_without_cards_is_no_fault(data: Any) -> None:
    assert batch(data) == BatchReply()


@pytest.mark.parametrize("data", ["text", 5, True, 1.5])
def test_a_batch_that_is_no_list_and_no_object_is_a_protocol_error(data: Any) -> None:
    with pytest.raises(ProtocolError, match="expected cards"):
        batch(data)


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"list": rows}])
def test_numbers_as_iccids_keep_all_their_digits(wrap: Any) -> None:
    near = [str(int(TWENTY) + step) for step in range(3)]
    reply = batch(wrap([{"iccid": int(iccid), "usedMb": 0.5} for iccid in near]), *near)

    assert list(reply.cards) == near
    assert {card.used_mb for card in reply.cards.values()} == {0.5}


def test_rows_that_name_no_card_are_counted() -> None:
    rows = [ONE, {"usedMB": "3"}, {"iccid": "8.98E+18"}, {"iccid": 8.98e18}, {"iccid": ""}, "odd"]
    reply = batch(rows)

    assert list(reply.cards) == [ICCID]
    assert reply.without_iccid == 5


def test_cards_that_nobody_asked_for_are_counted_and_not_returned() -> None:
    reply = batch([ONE, TWO, {"iccid": TWENTY}], ICCID)

    assert list(reply.cards) == [ICCID]
    assert (reply.unasked, reply.without_iccid) == (2, 0)


def test_an_unreadable_row_is_the_fault_of_its_card_alone() -> None:
    reply = batch({ICCID: {"usedMB": "odd"}, OTHER: "text", TWENTY: {}}, ICCID, OTHER, TWENTY)

    assert list(reply.cards) == [TWENTY]
    assert "usedMB" in str(reply.bad[ICCID])
    assert "expected an object" in str(reply.bad[OTHER])


@pytest.mark.parametrize("shape", [list, lambda rows: {ICCID: rows}])
def test_the_first_of_several_rows_is_the_card_and_none_is_dropped(shape: Any) -> None:
    second, third = ONE | {"usedMB": "2"}, ONE | {"usedMB": "3"}
    card = batch(shape([ONE, second, third])).cards[ICCID]

    assert card.used_mb == 1.0
    assert card.extra["more_rows"] == [second, third]


@pytest.mark.parametrize("turned", [False, True])
def test_a_bad_row_beside_a_good_one_is_kept_with_the_card(turned: bool) -> None:
    rows = [{"iccid": ICCID, "usedMB": "odd"}, ONE]
    reply = batch(rows[::-1] if turned else rows)

    assert reply.cards[ICCID].used_mb == 1.0
    assert reply.bad == {}
    assert reply.cards[ICCID].extra["more_rows"] == [rows[0]]


SWAPPED = {ICCID: TWO, OTHER: ONE}


@pytest.mark.parametrize(
    "data",
    [
        SWAPPED,
        {"data": SWAPPED},
        {ICCID: [TWO], OTHER: [ONE]},
        {ICCID: TWO | {"iccid": int(OTHER)}, OTHER: ONE | {"iccid": f" {ICCID}F"}},
        {ICCID: {"ICCID": OTHER, "usedMB": "1"}, OTHER: {"icc_id": ICCID, "usedMB": "2"}},
    ],
)
def test_a_row_that_is_filed_under_another_card_is_taken_for_neither(data: Any) -> None:
    reply = batch(data)

    assert not reply.cards
    assert [*reply.bad] == [ICCID, OTHER]
    assert "stands under the ICCID of one card" in str(reply.bad[ICCID])


def test_nothing_is_taken_from_a_row_that_is_filed_under_another_card() -> None:
    reply = batch({ICCID: TWO, OTHER: {"usedMB": "7"}})
    assert [*reply.bad] == [ICCID]
    assert reply.cards[OTHER].used_mb == 7.0
    assert not reply.cards[OTHER].extra

    reply = batch({ICCID: [ONE, TWO]})
    assert not reply.cards, "which of its rows is right can't be told"
    assert [*reply.bad] == [ICCID, OTHER], "and the other card is not known to be missing"

    reply = batch({TWENTY: ONE}, ICCID)
    assert (not reply.cards, [*reply.bad], reply.unasked) == (True, [ICCID], 0)


def test_a_row_that_is_filed_under_another_card_is_told_by_all_twenty_digits() -> None:
    near = str(int(TWENTY) + 1)
    reply = batch({TWENTY: {"iccid": int(TWENTY)}, near: {"iccid": int(TWENTY)}}, TWENTY, near)
    assert [*reply.cards] == [TWENTY]
    assert [*reply.bad] == [near]


@pytest.mark.parametrize(
    "iccid", [ICCID, f"{ICCID}F", int(ICCID), "n/a", "", None, "8985***042611"]
)
def test_a_row_that_names_its_own_card_or_none_is_no_contradiction(iccid: Any) -> None:
    reply = batch({ICCID: {"iccid": iccid, "usedMB": "1"}}, ICCID)
    assert reply.cards[ICCID].used_mb == 1.0


STRANGE = {"iccid": OTHER, "code": "LPA:1$rsp.example$CODE-OF-ANOTHER-CARD"}


@pytest.mark.parametrize("data", [{ICCID: STRANGE}, {"data": {ICCID: [STRANGE]}}])
async def test_the_detail_of_a_card_is_never_that_of_the_card_whose_row_is_filed_under_it(
    data: Any,
) -> None:
    class Answers:
        async def call(self, endpoint: Endpoint, _: Any, **_options: Any) -> Envelope:
            return envelope_of(data, exact=endpoint.exact)

    with pytest.raises(ProtocolError, match="stands under the ICCID of one card"):
        await Cards(Answers()).detail(ICCID)  # type: ignore[arg-type]


async def test_a_detail_whose_iccid_is_a_number_of_twenty_digits_is_read() -> None:
    class Answers:
        async def call(self, endpoint: Endpoint, _: Any, **_options: Any) -> Envelope:
            return envelope_of({"iccid": int(TWENTY), "usedMB": "1"}, exact=endpoint.exact)

    detail = await Cards(Answers()).detail(TWENTY)  # type: ignore[arg-type]
    assert (detail.iccid, detail.used_mb) == (TWENTY, 1.0)


@pytest.mark.parametrize("data", [[TWO, ONE], {OTHER: {"usedMB": 2}, ICCID: {"usedMB": 1}}])
def test_cards_come_in_the_order_in_which_they_were_asked_for(data: Any) -> None:
    assert [*batch(data).cards] == [ICCID, OTHER]
