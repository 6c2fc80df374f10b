"""The pytest plugin that comes with the package, and how little importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from waiting import SECONDS

HEAVY = ("aiohttp", "cattrs", "attrs", "attr", "orjson", "rich", "cyclopts", "uvloop")

SYNC_TEST = """
    from urllib.request import urlopen

    def test_in_sync_code(mioesim_sandbox):
        assert len(mioesim_sandbox.iccids) == 1000
        with urlopen(mioesim_sandbox.url + "/api_order/login") as reply:
            assert b'"code":-2' in reply.read()
        assert [seen.endpoint for seen in mioesim_sandbox.requests] == ["login"]
"""
ASYNC_TEST = """
    import pytest

    {mark}
    async def test_in_async_code(mioesim_sandbox):
        async with mioesim_sandbox.client() as client:
            report = await client.cards.query_all(mioesim_sandbox.iccids)
        assert len(report.cards) == 1000
        assert mioesim_sandbox.logins == 1
"""


def run_pytest(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run the tests that were made in a process of their own, warnings as errors."""
    # Hypothesis takes longer to load than all the rest.
    without = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    return pytester.runpytest_subprocess("-W", "error", *without, *arguments, timeout=SECONDS)


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has after running code."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


# The fixture.


def test_the_fixture_works_in_a_sync_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SYNC_TEST)
    run_pytest(pytester, "-p", "no:asyncio").assert_outcomes(passed=1)


@pytest.mark.parametrize(("mode", "mark"), [("auto", ""), ("strict", "@pytest.mark.asyncio")])
def test_the_fixture_works_in_an_async_test(
    pytester: pytest.Pytester, mode: str, mark: str
) -> None:
    pytester.makepyfile(ASYNC_TEST.format(mark=mark))
    pytester.makeini(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
    )
    run_pytest(pytester).assert_outcomes(passed=1)


def test_each_test_gets_a_sandbox_of_its_own_and_nothing_is_left(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile("""
        import threading
        from urllib.request import urlopen

        import pytest

        @pytest.mark.parametrize("turn", [1, 2])
        def test_fresh(mioesim_sandbox, turn):
            urlopen(mioesim_sandbox.url + "/api_order/login").close()
            assert len(mioesim_sandbox.requests) == 1

        def test_after():
            assert threading.enumerate() == [threading.main_thread()]
    """)
    run_pytest(pytester, "-p", "no:asyncio").assert_outcomes(passed=3)


def test_the_fixture_is_listed_with_its_purpose(pytester: pytest.Pytester) -> None:
    result = run_pytest(pytester, "-p", "no:asyncio", "--fixtures")
    result.stdout.fnmatch_lines(["mioesim_sandbox*", "*Run a sandbox*"])


def test_a_run_that_does_not_use_the_fixture_loads_nothing_heavy(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(f"""
        import sys

        def test_light():
            assert "mioesim_async_pytest" in sys.modules
            assert not {{*{HEAVY!r}}} & sys.modules.keys()
    """)
    # Other plugins may load anything; only ours is looked at here.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    run_pytest(pytester, "-p", "mioesim_async_pytest").assert_outcomes(passed=1)


# What an import costs.


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    before = modules_after("import pytest")
    loaded = modules_after("import mioesim_async_pytest")
    assert "mioesim_async_pytest" in loaded
    assert not (loaded - before) & {*HEAVY, "asyncio", "mioesim_async"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = modules_after("import mioesim_async")
    assert "mioesim_async" in loaded
    assert not loaded & {*HEAVY, "asyncio", "pytest"}


def test_importing_the_client_needs_neither_the_command_line_nor_pytest() -> None:
    loaded = modules_after("from mioesim_async import MioEsimClient")
    assert "aiohttp" in loaded
    assert not loaded & {"rich", "cyclopts", "uvloop", "pytest"}
