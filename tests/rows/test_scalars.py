"""Readers of single values: strict, deliberate, and the same for every spelling of a value."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from mioesim_async.clock import GMT8
from mioesim_async.rows import scalars

Reader = Callable[[Any], Any]

ALL: list[Reader] = [
    scalars.text,
    scalars.texts,
    scalars.digits,
    scalars.number,
    scalars.integer,
    scalars.decimal,
    scalars.flag,
    scalars.megabytes,
    scalars.megabytes_or_number,
    scalars.time_or_day_start,
    scalars.time_or_day_end,
]
NUMERIC: list[Reader] = [scalars.number, scalars.integer, scalars.decimal]
TIMES: list[Reader] = [scalars.time_or_day_start, scalars.time_or_day_end]


def names(readers: list[Reader]) -> pytest.MarkDecorator:
    """Run a test for each of these readers."""
    return pytest.mark.parametrize("read", readers, ids=lambda read: read.__name__)


@names(ALL)
def test_null_is_no_value_and_never_the_text_none(read: Reader) -> None:
    assert read(None) is None


@names([read for read in ALL if read is not scalars.texts])
def test_empty_text_is_no_value(read: Reader) -> None:
    assert read("") is None


@names([*NUMERIC, scalars.megabytes_or_number, scalars.flag])
@pytest.mark.parametrize("word", ["NaN", "nan", " Infinity ", "-inf", "null", "None", "  "])
def test_words_for_no_number_are_no_value(read: Reader, word: str) -> None:
    assert read(word) is None


@names(NUMERIC)
@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity")]
)
def test_nan_and_the_infinities_are_no_value(read: Reader, value: object) -> None:
    assert read(value) is None


@names([*NUMERIC, scalars.text, scalars.digits, scalars.megabytes, scalars.megabytes_or_number])
@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_no_number_and_no_text(read: Reader, value: bool) -> None:
    with pytest.raises(ValueError, match="expected"):
        read(value)


@names(ALL)
@pytest.mark.parametrize(
    "value",
    [{}, {"a": 1}, [[1]], [{"a": 1}], b"1", pytest.param(object(), id="object")],
    ids=repr,
)
def test_what_no_reader_knows_is_a_value_error_that_does_not_repeat_it(
    read: Reader, value: object
) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        read(value)
    assert repr(value) not in str(caught.value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text()
    | st.text(alphabet="0123456789.-+eE:/ KMGTBkmgtb\u212aF()T", max_size=24),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@names(ALL)
@given(value=json_values)
def test_a_reader_returns_a_value_or_raises_value_error(read: Reader, value: object) -> None:
    with contextlib.suppress(ValueError):
        read(value)


def test_a_kelvin_sign_is_no_unit_and_no_crash() -> None:
    with pytest.raises(ValueError, match="expected an amount"):
        scalars.megabytes("6\u212aB")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("abc", "abc"),
        (" a ", " a "),
        ("0", "0"),
        (0, "0"),
        (12.5, "12.5"),
        (Decimal("1.10"), "1.10"),
    ],
)
def test_text_is_kept_and_a_number_becomes_its_digits(value: object, expected: str) -> None:
    assert scalars.text(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a,b", ["a", "b"]),
        (" a , b ,", ["a", "b"]),
        (["a", " b ", "", None, 3], ["a", "b", "3"]),
        ([], []),
        ("", []),
    ],
)
def test_texts_come_as_a_list_or_with_commas(value: object, expected: list[str]) -> None:
    assert scalars.texts(value) == expected


@given(value=st.integers(0, 10**22))
def test_an_identifier_keeps_every_digit(value: int) -> None:
    assert scalars.digits(value) == str(value)
    assert scalars.digits(f" {value} ") == str(value)


@pytest.mark.parametrize("value", [8.98e18, Decimal("8.98E+18"), 1.0])
def test_an_identifier_that_lost_digits_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected digits"):
        scalars.digits(value)


@pytest.mark.parametrize("value", ["12.5", 12.5, " 12.5 ", "+12.5", "1.25e1", Decimal("12.5")])
def test_a_number_is_the_same_as_text_and_as_number(value: object) -> None:
    assert scalars.number(value) == 12.5
    assert type(scalars.number(value)) is float


@pytest.mark.parametrize(
    "value", ["1_000", "1,000", "12 5", "0x10", "12.5MB", "\u0661\u0662", "--1", ".", "e5", "1e"]
)
@names([scalars.number, scalars.integer, scalars.decimal])
def test_nothing_is_guessed_from_text_that_is_no_number(read: Reader, value: str) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        read(value)


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_comes_back_from_its_text(value: float) -> None:
    assert scalars.number(repr(value)) == scalars.number(value) == value


def test_a_number_too_large_for_a_float_is_no_value() -> None:
    assert scalars.number(10**400) is None
    assert scalars.number("1e999") is None


@pytest.mark.parametrize(
    ("value", "expected"), [(5, 5), ("5", 5), ("5.0", 5), (5.0, 5), ("-10", -10), (Decimal(7), 7)]
)
def test_a_whole_number_has_many_spellings(value: object, expected: int) -> None:
    assert scalars.integer(value) == expected
    assert type(scalars.integer(value)) is int


@pytest.mark.parametrize("value", ["5.5", 5.5, Decimal("0.1"), float(2**53), str(2**53 + 1)])
def test_a_fraction_or_a_rounded_number_is_no_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match="expected a whole number"):
        scalars.integer(value)


@given(value=st.integers())
def test_a_json_integer_is_kept_whatever_its_size(value: int) -> None:
    assert scalars.integer(value) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, "0.1"),
        (1.1, "1.1"),
        (19.99, "19.99"),
        ("19.90", "19.90"),
        (" 3.50 ", "3.50"),
        (Decimal("0.30"), "0.30"),
        (5, "5"),
        ("100000000000000000.01", "100000000000000000.01"),
    ],
)
def test_a_price_has_the_digits_of_its_text_and_no_noise(value: object, expected: str) -> None:
    price = scalars.decimal(value)

    assert type(price) is Decimal
    assert str(price) == expected


@given(value=st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=0))
def test_a_price_is_exact_as_text_and_as_decimal(value: Decimal) -> None:
    assert scalars.decimal(str(value)) == scalars.decimal(value) == value


@pytest.mark.parametrize("value", [True, 1, "1", 1.0, "true", " TRUE ", Decimal(1)])
def test_each_spelling_of_yes_is_true(value: object) -> None:
    assert scalars.flag(value) is True


@pytest.mark.parametrize("value", [False, 0, "0", 0.0, "false", "FALSE", "0.0"])
def test_zero_is_never_true(value: object) -> None:
    assert scalars.flag(value) is False


@pytest.mark.parametrize("value", [2, "2", -1, "yes", "y", "on"])
def test_what_is_neither_yes_nor_no_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        scalars.flag(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1GB", 1024.0),
        ("6GB", 6144.0),
        ("500MB", 500.0),
        ("1.5 GB", 1536.0),
        ("1gb", 1024.0),
        ("1G", 1024.0),
        ("20M", 20.0),
        ("512KB", 0.5),
        ("1TB", 1048576.0),
        (" 3GB ", 3072.0),
        ("0GB", 0.0),
    ],
)
def test_an_amount_is_megabytes_with_1024_to_the_gigabyte(value: str, expected: float) -> None:
    assert scalars.megabytes(value) == expected
    assert scalars.megabytes_or_number(value) == expected


@pytest.mark.parametrize("value", ["6", 6, 6.0, "GB", "-1GB", "6PB", "6GBit", "unlimited", "1,5GB"])
def test_an_amount_without_a_clear_unit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected an amount"):
        scalars.megabytes(value)


@pytest.mark.parametrize("value", ["12.5", 12.5])
def test_a_field_named_for_megabytes_may_leave_the_unit_out(value: object) -> None:
    assert scalars.megabytes_or_number(value) == 12.5


def test_an_absurd_amount_is_never_infinite() -> None:
    try:
        amount = scalars.megabytes("9" * 400 + "GB")
    except ValueError:
        return
    assert amount is None


def at(*parts: int) -> datetime:
    """Make a time in GMT+8."""
    return datetime(*parts, tzinfo=GMT8)  # type: ignore[misc,arg-type]


@names(TIMES)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-12-24 17:30:14.0", at(2024, 12, 24, 17, 30, 14)),
        ("2024-12-24 17:30:14", at(2024, 12, 24, 17, 30, 14)),
        ("2024-12-24 17:30:14(GMT+8)", at(2024, 12, 24, 17, 30, 14)),
        ("2024-12-24 17:30:14 (GMT+8)", at(2024, 12, 24, 17, 30, 14)),
        ("2024-12-24 17:30:14.0 (GMT+8)", at(2024, 12, 24, 17, 30, 14)),
        (" 2024-12-24 17:30:14 ", at(2024, 12, 24, 17, 30, 14)),
        ("2024-12-24 17:30", at(2024, 12, 24, 17, 30)),
        ("2024-12-24T17:30:14+08:00", at(2024, 12, 24, 17, 30, 14)),
        ("2024-12-24 17:30:14.5", at(2024, 12, 24, 17, 30, 14, 500_000)),
        ("2024-12-24 17:30:14.123456789", at(2024, 12, 24, 17, 30, 14, 123_456)),
        ("2024-12-24 00:00:00", at(2024, 12, 24)),
        ("2024-02-29 23:59:59", at(2024, 2, 29, 23, 59, 59)),
    ],
)
def test_each_spelling_of_a_time_is_that_time_in_gmt8(
    read: Reader, value: str, expected: datetime
) -> None:
    moment = read(value)

    assert moment == expected
    assert moment.utcoffset() == timedelta(hours=8)


@pytest.mark.parametrize(
    "value",
    ["2024-12-24", "2024-12-24(GMT+8)", "2024-12-24 (GMT+8)", "12/24/2024", " 2024-12-24 "],
)
def test_a_date_alone_starts_at_its_start_and_ends_at_its_end(value: str) -> None:
    assert scalars.time_or_day_start(value) == at(2024, 12, 24)
    assert scalars.time_or_day_end(value) == at(2024, 12, 24, 23, 59, 59, 999_999)


@given(day=st.dates(min_value=date(1000, 1, 1)))
def test_every_date_reads_alike_in_both_orders_of_its_parts(day: date) -> None:
    iso, american = day.isoformat(), day.strftime("%m/%d/") + f"{day.year:04}"

    for read in TIMES:
        assert read(iso) == read(american)
        assert read(iso).date() == day


@given(moment=st.datetimes(min_value=datetime(1000, 1, 1)))  # noqa: DTZ001
def test_every_time_comes_back_from_its_text(moment: datetime) -> None:
    aware = moment.replace(tzinfo=GMT8)

    assert (
        scalars.time_or_day_start(str(moment))
        == scalars.time_or_day_end(f"{moment} (GMT+8)")
        == aware
    )


def test_the_same_text_gives_each_side_of_the_day_however_often_it_is_read() -> None:
    for _ in range(2):
        assert scalars.time_or_day_end("2025-01-31") - scalars.time_or_day_start("2025-01-31") == (  # type: ignore[operator]
            timedelta(days=1, microseconds=-1)
        )


def test_a_plan_that_ends_today_in_gmt8_has_ended_by_the_next_utc_afternoon() -> None:
    ends = scalars.time_or_day_end("2024-12-24")

    assert ends is not None
    assert ends < datetime(2024, 12, 24, 16, tzinfo=UTC)
    assert ends > datetime(2024, 12, 24, 15, 59, 59, tzinfo=UTC)


@names(TIMES)
@pytest.mark.parametrize(
    "value",
    [
        "2024-02-30",
        "2023-02-29",
        "2024-13-01",
        "13/01/2024",
        "02/30/2024",
        "0000-01-01",
        "2024-12-24 24:00:00",
        "2024-12-24 17:60:00",
        "2024-12-24 17:30:61",
    ],
)
def test_an_impossible_date_is_a_value_error_each_time(read: Reader, value: str) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match=r"range|must be in"):
            read(value)


@names(TIMES)
@pytest.mark.parametrize(
    "value",
    [
        1735032614,
        1735032614000.0,
        "1735032614",
        "24/12",
        "tomorrow",
        "2024-12-24 17:30:14 (GMT+9)",
        "2024-12-24T17:30:14Z",
        "2024-12-24 17",
        "٢٠٢٤-12-24",
        True,
    ],
)
def test_what_is_no_known_spelling_of_a_date_is_not_guessed(read: Reader, value: object) -> None:
    with pytest.raises(ValueError, match="expected a date"):
        read(value)


@names(TIMES)
@pytest.mark.parametrize("value", ["  ", "null", "None", "NaN"])
def test_words_for_no_date_are_no_value(read: Reader, value: str) -> None:
    assert read(value) is None
