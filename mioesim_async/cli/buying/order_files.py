"""Orders and renewals from a CSV file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from attrs import asdict

from mioesim_async import errors
from mioesim_async.api.orders.line_checks import Line, check_plan
from mioesim_async.cli.iccid_sources import SEPARATORS, unquoted
from mioesim_async.models.iccid import clean_iccid, shown
from mioesim_async.models.order_lines import OrderLine, RenewalLine

__all__ = ["FIELDS", "read_lines"]

REFERENCE = "other_order_id"


def _whole(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError("a whole number")
    return int(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("a day such as 2027-01-31") from None


def _flag(text: str) -> bool:
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError("yes or no")
    return known[text.lower()]


def _several(text: str) -> list[str]:
    return [unquoted(item) for item in re.split(r"[\s;,]+", text) if item]


Reader = Callable[[str], Any]

COMMON: dict[str, Reader] = {
    "sku_id": _whole,
    "price_id": _whole,
    "api_code": str,
    REFERENCE: str,
    "other_item_id": str,
    "daypass_days": _whole,
    "pdf_language": str,
    "remark": str,
}
FIELDS: Mapping[type[Line], Mapping[str, Reader]] = {
    OrderLine: {
        **COMMON,
        "count": _whole,
        "dp_id": _whole,
        "iccids": _several,
        "begin_date": _day,
        "customer_email": str,
        "send_email": _flag,
    },
    RenewalLine: {**COMMON, "order_num": str, "iccid": str},
}
COLUMN_ALIASES = {"reference": REFERENCE, "days": "daypass_days", "email": "customer_email"}
"""Other names of columns."""


def read_lines(path: Path, kind: type[Line], batch: str) -> list[tuple[int, Line]]:
    """Read a CSV file whose columns are named like the fields of a line.

    Args:
        path: The file, in UTF-8.
        kind: ``OrderLine`` or ``RenewalLine``.
        batch: Part of the references that are made for lines without one.

    Returns:
        The number of each line in the file, from 1, and the line.

    Raises:
        InvalidRequest: With every fault and its line.
        OSError: If the file can't be read.
    """
    rows = _rows(path)
    columns = _columns(path, kind, next(rows, (0, []))[1])
    lines: list[tuple[int, Line]] = []
    faults: list[str] = []
    seen: Counter[str] = Counter()
    numbers: dict[str, int] = {}
    for number, row in rows:
        try:
            line = _line(kind, columns, row, batch, seen)
            check_plan(line, now=time.time())
            if line.other_order_id in numbers:
                raise errors.InvalidRequest(
                    f"its reference is the same as that of line {numbers[line.other_order_id]}"
                )
        except errors.InvalidRequest as error:
            faults += [f"line {number}: {fault}" for fault in error.faults]
        else:
            numbers[line.other_order_id] = number
            lines.append((number, line))
    if faults:
        raise errors.InvalidRequest(*faults)
    if not lines:
        raise errors.InvalidRequest(f"{path.name} has no lines after its header")
    return lines


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank, with the number of its first line."""
    raw, text, wrong = path.read_bytes(), "", 0
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = raw.count(b"\n", 0, error.start) + 1
    if wrong:
        raise errors.InvalidRequest(
            f"{path.name}, line {wrong}: not UTF-8 text; save the file as UTF-8"
        )
    separator = max(SEPARATORS, key=text.partition("\n")[0].count)
    # Not splitlines(), which also splits at characters that a cell may have, such as U+2028.
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    number = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield number, row
            number = reader.line_num + 1
    except csv.Error as error:
        fault = str(error)
    else:
        return
    raise errors.InvalidRequest(f"{path.name} is not a CSV file: line {number}: {fault}")


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _columns(path: Path, kind: type[Line], header: list[str]) -> list[str]:
    """Return the field of each column; case, spaces and dashes in names don't matter."""
    known = {_folded(name): name for name in FIELDS[kind]}
    known |= {name: field for name, field in COLUMN_ALIASES.items() if field in FIELDS[kind]}
    columns = [known.get(_folded(name), "") for name in header]
    unknown = [
        shown(name.strip()) for name, field in zip(header, columns, strict=True) if not field
    ]
    faults = [f"{path.name} has unknown columns: {', '.join(unknown)}"] if unknown else []
    faults += [
        f"{path.name} has two columns for {name}"
        for name, times in Counter(columns).items()
        if name and times > 1
    ]
    if not columns:
        faults.append(f"{path.name} is empty; it needs a line with the names of its columns")
    if faults:
        raise errors.InvalidRequest(*faults, f"the columns are {', '.join(FIELDS[kind])}")
    return columns


def _line(
    kind: type[Line], columns: list[str], row: list[str], batch: str, seen: Counter[str]
) -> Line:
    if len(row) > len(columns) and any(cell.strip() for cell in row[len(columns) :]):
        raise errors.InvalidRequest("it has more cells than there are columns")
    cells = {
        name: text
        for name, cell in zip(columns, row, strict=False)
        if (text := unquoted(cell).strip())
    }
    faults: list[str] = []
    values: dict[str, Any] = {}
    for name, text in cells.items():
        try:
            values[name] = FIELDS[kind][name](text)
        except ValueError as error:
            faults.append(f"{name} must be {error}, not {shown(text)}")
    if faults:
        raise errors.InvalidRequest(*faults)
    line = kind(**values)
    if REFERENCE not in values:
        line.other_order_id = _reference(line, batch, seen)
    return line


def _reference(line: Line, batch: str, seen: Counter[str]) -> str:
    """Make a reference that is the same each time the file is run.

    It depends on the values of the line, not on its position or spelling, so that a file can be
    corrected, saved by a spreadsheet and run again. Lines with equal values are numbered.
    """
    means = asdict(line, filter=lambda one, _: one.name not in (REFERENCE, "package"))
    if means.get("iccid"):
        means["iccid"] = _cleaned(means["iccid"])
    if means.get("iccids"):
        means["iccids"] = sorted(map(_cleaned, means["iccids"]))
    said = json.dumps([type(line).__name__, batch, sorted(means.items())], default=str)
    seen[said] += 1
    return hashlib.sha256(f"{said}{seen[said]}".encode()).hexdigest()[:32]


def _cleaned(iccid: str) -> str:
    try:
        return clean_iccid(iccid)
    except errors.InvalidRequest:
        # check_plan() reports it, with all other faults of the line.
        return iccid
