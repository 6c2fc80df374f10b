"""A host in a separate process; the ``base_url`` says how large or hostile its replies are.

The ``base_url`` is ``http://127.0.0.1:PORT/KIND-SIZE``: KIND is one of ``KINDS``, and SIZE is how
many rows a reply has if the request does not say it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

__all__ = ["KINDS", "iccid", "replies"]

MIB = 2**20
BURST = 0.05
"""Seconds for which the kind ``together`` collects requests, to answer all of them at once."""

Asked = dict[str, str]


def iccid(number: int) -> str:
    return f"8985{number:015d}"


def card(of: str) -> dict[str, Any]:
    return {
        "iccid": of,
        "dpStatus": "ACTIVE",
        "data": "6GB",
        "validity": 30,
        "startDate": "2026-01-05 08:30:14.0",
        "endDate": "2026-02-04",
        "orderNum": "EP20260105000013",
        "skuId": 45,
        "remainingMB": 512.25,
        "usedMB": "131.5",
        "code": "LPA:1$smdp.example.com$QR-G-5C-1LS-1W1Z9P7",
    }


def order(number: int, cards: int) -> dict[str, Any]:
    return {
        "orderNum": f"EP20260105{number:06d}",
        "purchaseDate": "2026-01-05 08:30:14",
        "count": max(1, cards),
        "price": 12.5,
        "status": 0,
        "renewal": False,
        "skuId": 45,
        "priceId": 441,
        "cardApiDtoList": [card(iccid(one)) for one in range(cards)],
    }


def package(number: int) -> dict[str, Any]:
    return {
        "priceid": number,
        "flows": 1.5,
        "unit": "GB",
        "days": 30,
        "price": 4.35,
        "flowType": 0,
        "supportDaypass": 0,
        "mustDate": 0,
        "apiCode": f"392-0-{number}-1-G",
        "premark": "Rules: <p>valid in Japan, for 30 days</p>",
        "showName": "Japan 30 days",
        "openCardFee": 0.5,
        "networkDtoList": [{"type": "4G", "operator": "Docomo", "namecn": "日本"}],
    }


def packages(rows: int) -> dict[str, Any]:
    return {
        "skuid": 45,
        "display": "Japan",
        "supportCountry": ["Japan"],
        "esimPackageDtoList": [package(number) for number in range(rows)],
    }


def skus(rows: int) -> list[dict[str, Any]]:
    return [{"skuid": n, "display": f"SKU {n}", "countryCode": "392"} for n in range(rows)]


def usage(rows: int) -> dict[str, Any]:
    plan = {"iccid": iccid(1), "flows": 1, "unit": "GB", "usedMb": 1.5}
    row = {"orderNum": "EP20260105000013", "totle": "9.5", "packageList": [plan]}
    return {"total": rows, "page": 1, "rows": [row for _ in range(rows)]}


USUAL: dict[str, Callable[[Asked, int], Any]] = {
    "queryIccidInformation": lambda asked, _: [card(one) for one in asked["iccids"].split(",")],
    "getESIMDetail": lambda asked, _: card(asked["iccid"]),
    "getHistoryDetail": lambda _, rows: [
        order(n, 0) | {"endDate": "2026-02-04"} for n in range(rows)
    ],
    "getSkus": lambda _, rows: skus(rows),
    "getIccidSupportSku": lambda _, rows: skus(rows),
    "getDpSupportSkuInfo": lambda _, rows: skus(rows),
    "getSkuByGroup": lambda _, rows: {"continent": ["Asia"], "data": {"Asia": skus(rows)}},
    "getPackages": lambda _, rows: packages(rows),
    "getDpSkuSupportPackageInfo": lambda _, rows: packages(rows),
    "getIccidSupportPackageInfo": lambda _, rows: [packages(1) for _ in range(rows)],
    "getPhysicalSIMDpInfo": lambda _, rows: [
        {"id": n, "realName": f"Partner {n}"} for n in range(rows)
    ],
    "queryOrder": lambda _, rows: {"total": rows, "rows": [order(n, 0) for n in range(rows)]},
    "queryEsimOrder": lambda _, rows: usage(rows),
    "handlerEsimPdf": lambda _, rows: {iccid(n): f"http://x//pdf/{n}" for n in range(rows)},
    "verifyResource": lambda _asked, _: None,
    "refundOrder": lambda _asked, _: None,
}


def usual(name: str, asked: Asked, size: int) -> Any:
    """Answer as the vendor would, with so many rows."""
    return USUAL[name](asked, size) if name in USUAL else order(1, size)


def reply(data: Any) -> bytes:
    return json.dumps({"code": 0, "message": "success", "data": data}).encode()


def listed(row: bytes, times: int) -> bytes:
    return b'{"code":0,"data":[' + b",".join([row] * times) + b"]}"


def foreign(rows: int) -> list[dict[str, Any]]:
    return [{"iccid": f"8999{number:015d}", "dpStatus": "ACTIVE"} for number in range(rows)]


def wide(asked: Asked, fields: int, value: Any) -> list[dict[str, Any]]:
    extra = {f"field{number}": value for number in range(fields)}
    named = asked.get("iccids") or asked.get("iccid", "")
    return [{"iccid": one, **extra} for one in named.split(",")]


def nested(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = [value]
    return value


KINDS: dict[str, Callable[[str, Asked, int], bytes]] = {
    "usual": lambda name, asked, size: reply(usual(name, asked, size)),
    "together": lambda name, asked, size: reply(usual(name, asked, size)),
    "missing": lambda _, _asked, _size: reply([]),
    "map": lambda _, asked, _size: reply({one: card(one) for one in asked["iccids"].split(",")}),
    "numbers": lambda _, asked, _size: reply(
        [card(one) | {"iccid": int(one)} for one in asked["iccids"].split(",")]
    ),
    "ones": lambda _, _asked, size: listed(b"1", size * MIB // 2),
    "objects": lambda _, _asked, size: listed(b"{}", size * MIB // 3),
    "foreign": lambda _, _asked, size: reply(foreign(size)),
    "wide": lambda _, asked, size: reply(wide(asked, size, 1)),
    "floats": lambda _, asked, size: reply(wide(asked, size, 0.12345678901234567)),
    "deep": lambda _, asked, size: reply(wide(asked, 1, nested(size))),
    "packages": lambda _, _asked, size: reply(packages(size * MIB // 400)),
    "order": lambda _, _asked, size: (
        b'{"code":0,"data":{"remark":"' + b"x" * (size * MIB) + b'","orderNum":"EP20260105000013"}}'
    ),
}


class Host:
    """Answers any request; the login always succeeds."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, int], bytes] = {}
        self._waiting: list[tuple[asyncio.StreamWriter, bytes]] = []

    def body(self, path: str, asked: Asked) -> bytes:
        kind, _, size = path.split("/")[1].partition("-")
        name = path.rsplit("/", 1)[-1]
        if name == "login":
            return b'{"code": 1, "message": "Successful", "data": {"token": "29281-9EFE5E41"}}'
        make, rows = KINDS[kind], int(size or 1)
        if "iccids" in asked or "iccid" in asked:
            return make(name, asked, rows)
        # Kept, since large replies take long to make.
        key = kind, name, rows
        if key not in self._made:
            self._made[key] = make(name, asked, rows)
        return self._made[key]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = head.split(b" ", 2)[1].decode()
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                sent = await reader.readexactly(int(length or 0))
                url = urlsplit(target)
                body = self.body(url.path, dict(parse_qsl(f"{url.query}&{sent.decode()}")))
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                if url.path.startswith("/together") and not url.path.endswith("login"):
                    if not self._waiting:
                        asyncio.get_running_loop().call_later(BURST, self._answer_all)
                    self._waiting.append((writer, answer))
                else:
                    writer.write(answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer_all(self) -> None:
        for writer, answer in self._waiting:
            writer.write(answer)
        self._waiting.clear()


async def main() -> None:
    server = await asyncio.start_server(Host().serve, "127.0.0.1", 0, limit=64 * MIB, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


@contextmanager
def replies() -> Generator[str]:
    """Run the host in a separate process, and yield its URL, without a kind."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.replies"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError("the host's process did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()


if __name__ == "__main__":
    asyncio.run(main())
