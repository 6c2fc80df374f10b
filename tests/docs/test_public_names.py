"""The public names: where they are, that type checkers see them, and what moved."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from waiting import SECONDS

import mioesim_async

HOMES = mioesim_async._NAMES_OF_MODULE
DOCS = Path(__file__).parents[2]


def type_checkers_homes() -> dict[str, list[str]]:
    """Return what the ``TYPE_CHECKING`` block of the package imports, by module."""
    source = Path(mioesim_async.__file__).read_text(encoding="utf-8")
    (block,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    homes: dict[str, list[str]] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        assert all(alias.asname == alias.name for alias in node.names), "not re-exported"
        module = node.module.removeprefix("mioesim_async").removeprefix(".")
        homes[module] = [alias.name for alias in node.names]
    return homes


def test_type_checkers_and_the_interpreter_find_the_same_names_in_the_same_modules() -> None:
    homes = type_checkers_homes()
    assert homes.pop("") == ["errors"]
    assert homes == {module: [*names] for module, names in HOMES.items()}
    assert [*homes] == [*HOMES], "one order, so that the two lists can be compared by eye"
    names = [name for names in homes.values() for name in names]
    assert sorted([*names, "errors", "__version__"]) == sorted(mioesim_async.__all__)


@pytest.mark.parametrize("name", mioesim_async.__all__)
def test_every_public_name_can_be_got(name: str) -> None:
    value = getattr(mioesim_async, name)
    assert value is getattr(mioesim_async, name)
    assert name in dir(mioesim_async)
    if isinstance(value, type):
        assert value.__name__ == name


def test_a_star_import_gives_every_public_name() -> None:
    script = (
        "from mioesim_async import *\nimport mioesim_async\n"
        "assert {*mioesim_async.__all__} <= {*globals()}"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], timeout=SECONDS, check=True)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = mioesim_async.no_such_name
    assert not hasattr(mioesim_async, "asyncio")


def test_the_names_of_the_public_face_are_there() -> None:
    promised = {
        "MioEsimClient", "Credentials", "SessionManager", "PoolLimits", "Timeouts",
        "RetryPolicy", "Dialect", "Safety", "CardStream", "CardStatus", "CardDetail",
        "CardOutcome", "CardReport", "DpStatus", "Sku", "SkuPackages", "Package", "PastPlan",
        "ActivationCode", "InstallLinks", "Brand", "CustomerSheet", "customer_html",
        "customer_sheets", "customer_text", "fan_out", "to_dict", "json_schema", "errors",
    }  # fmt: skip
    assert promised <= {*mioesim_async.__all__}


def documented() -> list[tuple[str, str]]:
    """Return each name that the documents import, with its module."""
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for path in [DOCS / "README.md", DOCS / "CHANGELOG.md", *(DOCS / "docs").glob("*.md")]
    )
    found = re.findall(r"from (mioesim_async[\w.]*) import ([\w, ]+\w)", text)
    return sorted({(module, name) for module, names in found for name in names.split(", ")})


@pytest.mark.parametrize(("module", "name"), documented())
def test_every_name_that_the_documents_import_is_where_they_say(module: str, name: str) -> None:
    home = importlib.import_module(module)
    assert hasattr(home, name)
    assert name in home.__all__


def test_the_modules_that_the_documents_name_beside_the_package_are_these() -> None:
    assert {module for module, _ in documented()} == {
        "mioesim_async", "mioesim_async.delivery", "mioesim_async.journal", "mioesim_async.sandbox",
        "mioesim_async.schemas", "mioesim_async.testing.journal_contract",
    }  # fmt: skip


def test_the_pytest_plugin_is_at_its_new_place_only() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mioesim_async.pytest_plugin")
    (entry,) = entry_points(group="pytest11", name="mioesim_async")
    assert entry.value == "mioesim_async_pytest"
    assert hasattr(entry.load(), "mioesim_sandbox")
