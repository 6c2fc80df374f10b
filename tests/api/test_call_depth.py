"""A call goes through few coroutines on its way to aiohttp, so that it can be read in one go."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import mioesim_async
from mioesim_async import MioEsimClient
from mioesim_async.sandbox import Sandbox

PACKAGE = Path(mioesim_async.__file__).parent


def coroutines_of_the_package() -> list[str]:
    """Return the names of the running coroutines that wait for each other, the outermost first."""
    names: list[str] = []
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_flags & inspect.CO_COROUTINE and PACKAGE in Path(code.co_filename).parents:
            names.insert(0, code.co_qualname)
        frame = frame.f_back
    return names


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """For each request that aiohttp was asked for, the coroutines that waited for it."""
    seen: list[list[str]] = []
    request = aiohttp.ClientSession._request

    async def noted(self: aiohttp.ClientSession, *args: Any, **options: Any) -> Any:
        seen.append(coroutines_of_the_package())
        return await request(self, *args, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", noted)
    return seen


async def test_a_plain_call_goes_through_six_coroutines_from_cards_query_to_aiohttp(
    client: MioEsimClient, sandbox: Sandbox, ways: list[list[str]]
) -> None:
    await client.login()
    ways.clear()
    await client.cards.query(sandbox.iccids[0])

    (way,) = ways
    assert way[0] == "Cards.query"
    assert way[-1] == "SessionManager.send"
    assert len(way) <= 6, way


async def test_a_batch_of_a_sweep_has_two_functions_between_the_fan_out_and_the_call(
    client: MioEsimClient, sandbox: Sandbox, ways: list[list[str]]
) -> None:
    await client.login()
    ways.clear()
    await client.cards.query_all(sandbox.iccids[:250])

    assert len(ways) == 3
    for way in ways:
        assert way[0] == "BatchStream._run_batch"
        assert way.index("Caller.call") <= 3, way
