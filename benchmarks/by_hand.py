"""A hand-written script that writes the same CSV as ``mioesim query``, from dicts."""

from __future__ import annotations

import asyncio
import csv
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import aiohttp

from benchmarks.contenders import CONCURRENCY, QUERY, signed

FIELDS = (
    "iccid,result,dp_status,used_mb,remaining_mb,total_mb,starts_at,ends_at,order_num,sku_id,"
    "error,queried_at"
)


def batches(path: str) -> Iterator[list[str]]:
    with Path(path).open(encoding="utf-8") as lines:
        iccids = (line.strip() for line in lines)
        while batch := list(islice(iccids, 100)):
            yield batch


async def main(url: str, source: str, output: str) -> None:
    left = batches(source)
    with Path(output).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS.split(","))
        async with aiohttp.ClientSession() as session:

            async def work() -> None:
                for batch in left:
                    params = signed({"iccids": ",".join(batch)})
                    async with session.get(url + QUERY, params=params) as response:
                        reply = await response.json()
                    if reply["code"] != 0:
                        raise RuntimeError(reply["message"])
                    now = str(datetime.now(UTC).replace(microsecond=0))
                    cards = {card["iccid"]: card for card in reply["data"]}
                    for iccid in batch:
                        card = cards[iccid]
                        writer.writerow(
                            (
                                f'="{iccid}"',
                                "found",
                                card["dpStatus"],
                                float(card["usedMB"]),
                                card["remainingMB"],
                                float(card["data"].removesuffix("GB")) * 1024,
                                card["startDate"].removesuffix(".0") + "+08:00",
                                card["endDate"] + " 23:59:59.999999+08:00",
                                card["orderNum"],
                                card["skuId"],
                                None,
                                now,
                            )
                        )

            await asyncio.gather(*[work() for _ in range(CONCURRENCY)])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
