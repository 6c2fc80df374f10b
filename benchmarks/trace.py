"""Counts the functions and files of the package that one call runs.

    python -m benchmarks.trace [--list]

Each call is made once to warm up, and then once more under `sys.setprofile`, with a client that is
logged in. A function counts once, also if it runs for each of 250 cards. Comprehensions are left
out, since newer Pythons run them in their function. The sandbox runs in a thread of its own, which
isn't traced.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import sys
import tempfile
from collections.abc import Awaitable, Callable
from types import CodeType, FrameType

import mioesim_async
from mioesim_async import MioEsimClient, OrderJournal
from mioesim_async.sandbox import Sandbox

_PACKAGE = pathlib.Path(mioesim_async.__file__).parent
_NOT_OF_THE_CALL = ("sandbox",)
_INLINED = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}


def _place(code: CodeType) -> str | None:
    """Return the file of a function of the package, relative to it; None for any other function."""
    path = pathlib.Path(code.co_filename)
    if code.co_filename.startswith("<mioesim_async"):
        return "compiled"
    if _PACKAGE not in path.parents or code.co_name in _INLINED:
        return None
    place = path.relative_to(_PACKAGE)
    return None if place.parts[0] in _NOT_OF_THE_CALL else str(place)


async def traced(call: Callable[[], Awaitable[object]]) -> list[tuple[str, str]]:
    """Make a call and return the functions of the package that ran, as (file, qualified name)."""
    seen: dict[CodeType, None] = {}

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            seen.setdefault(frame.f_code)

    sys.setprofile(note)
    try:
        await call()
    finally:
        sys.setprofile(None)
    placed = ((_place(code), code.co_qualname) for code in seen)
    return [(place, name) for place, name in placed if place is not None]


async def _main(listed: bool) -> None:
    with Sandbox(cards=300) as sandbox, tempfile.TemporaryDirectory() as folder:
        iccids = sandbox.iccids
        journal = OrderJournal(pathlib.Path(folder, "orders.db"))
        plain = MioEsimClient(sandbox.credentials, base_url=sandbox.url)
        journalled = MioEsimClient(sandbox.credentials, base_url=sandbox.url, order_journal=journal)
        references = iter(("first", "second"))
        async with plain, journalled:
            await plain.login()
            await journalled.login()

            async def buy(client: MioEsimClient, **options: str) -> None:
                await client.orders.place(sku_id=45, price_id=441, count=1, **options)

            async def sweep() -> None:
                async with plain.cards.query_many(iccids[:250]) as outcomes:
                    async for _ in outcomes:
                        pass

            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "query": lambda: plain.cards.query(iccids[:1]),
                "detail": lambda: plain.cards.detail(iccids[0]),
                "query_many of 250": sweep,
                "place": lambda: buy(plain),
                "place with a journal": lambda: buy(journalled, other_order_id=next(references)),
            }
            print(f"{'call':<22}{'functions':>10}{'files':>7}")
            for name, call in calls.items():
                await call()
                ways = await traced(call)
                print(f"{name:<22}{len(ways):>10}{len({place for place, _ in ways}):>7}")
                if listed:
                    for place, function in ways:
                        print(f"    {place:<28} {function}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="name the functions too")
    asyncio.run(_main(parser.parse_args().list))


if __name__ == "__main__":
    main()
