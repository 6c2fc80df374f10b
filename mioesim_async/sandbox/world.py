"""The sandbox's cards: made from a seed, so that a run repeats, and never stored."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

__all__ = ["World"]

STATUSES = ("ACTIVE",) * 12 + ("Enable",) * 4 + ("Disable",) * 3 + ("Delete",)
PLANS = ((1024, "1GB"), (3072, "3GB"), (6144, "6GB"), (500, "500MB"), (20480, "20GB"))
SKUS = ((45, "Japan", "392"), (71, "Thailand", "764"), (102, "France", "250"))
FIRST_DAY = dt.date(2026, 1, 1)


class World:
    """Cards of one account, each computed from the seed and its number."""

    def __init__(self, cards: int, seed: int) -> None:
        """Number the cards from 0."""
        self._seed = seed
        # Like the vendor's samples: some don't start with 89, and none passes the Luhn check.
        self.iccids = [
            f"{('8985', '8932', '1234')[number % 3]}{seed % 10_000:04d}{number:011d}"
            for number in range(cards)
        ]
        self._numbers = {iccid: number for number, iccid in enumerate(self.iccids)}

    def __contains__(self, iccid: str) -> bool:
        """Tell whether there is such a card."""
        return iccid in self._numbers

    def _digest(self, iccid: str) -> bytes:
        return hashlib.blake2b(f"{self._seed}:{iccid}".encode(), digest_size=16).digest()

    def stranger(self, number: int) -> str:
        """Return the ICCID of a card of somebody else's."""
        return f"8999{number:015d}"

    def status(self, iccid: str) -> dict[str, Any]:
        """Return a card's row in a batch reply."""
        digest = self._digest(iccid)
        size, text = PLANS[digest[1] % len(PLANS)]
        used = round(size * digest[2] / 255, 2)
        start = FIRST_DAY + dt.timedelta(days=digest[3])
        row: dict[str, Any] = {
            "iccid": iccid,
            "dpStatus": STATUSES[digest[0] % len(STATUSES)],
            "data": text,
            "remainingMB": round(size - used, 2),
            "validity": 30,
            "startDate": f"{start:%Y-%m-%d} 08:30:14.0",
            "endDate": f"{start + dt.timedelta(days=30):%Y-%m-%d}",
            "orderNum": self._order_num(iccid),
            "skuId": SKUS[digest[4] % len(SKUS)][0],
        }
        # The vendor spells it both ways, as text and as a number.
        row |= {"usedMB": f"{used}"} if digest[5] % 2 else {"usedMb": used}
        return row

    def _order_num(self, iccid: str) -> str:
        return f"EP20260101{int.from_bytes(self._digest(iccid)[6:9]) % 1_000_000:06d}"

    def detail(self, iccid: str) -> dict[str, Any]:
        """Return everything about a card."""
        address, matching = "smdp.sandbox.example", self._digest(iccid).hex().upper()[:20]
        return self.status(iccid) | {
            "code": f"LPA:1${address}${matching}",
            "sm_dp_address": address,
            "activationCode": matching,
            "apn": "internet",
            "mobileNumber": "",
            "pdfUrl": f"http://127.0.0.1//pdf/{iccid}.pdf",
        }

    def history(self, iccid: str) -> list[dict[str, Any]]:
        """Return the plans that a card had."""
        row = self.status(iccid)
        return [
            {
                "orderNum": row["orderNum"],
                "display": "Japan 1GB 7 days",
                "status": 0,
                "purchaseDate": "2025-12-24 17:30:14.0",
                "startDate": row["startDate"],
                "endDate": f"{row['endDate']} (GMT+8)",
                "count": 1,
                "price": 12.1,
            }
        ]

    def renewal_skus(self, iccid: str) -> list[dict[str, Any]]:
        """Return the SKUs that a card can be renewed with."""
        return [
            {"skuid": sku, "display": name, "countryCode": code}
            for sku, name, code in SKUS[: 1 + self._digest(iccid)[4] % len(SKUS)]
        ]

    def renewal_packages(self, iccid: str) -> Any:
        """Return the packages that a card can be renewed with: an object, or a list of them."""
        several = [
            {
                "skuid": sku["skuid"],
                "display": sku["display"],
                "esimPackageVoList" if position % 2 else "esimPackageDtoList": [
                    {
                        "priceid": 441, "flows": 1, "unit": "GB", "days": 7, "price": 12.1,
                        "flowType": 0, "supportDaypass": 0, "mustDate": 0, "expireDays": 180,
                        "apiCode": f"{sku['countryCode']}-0-7-1-G", "openCardFee": 0.0,
                    },
                    {
                        "priceid": 442, "flows": 500, "unit": "MB", "days": 1, "price": "1.15",
                        "flowType": 0, "supportDaypass": 1, "minDay": 3, "maxDay": 30,
                        "mustDate": 1, "apiCode": f"{sku['countryCode']}-0-?-500-M-D",
                        "openCardFee": 0.5,
                    },
                ],
            }
            for position, sku in enumerate(self.renewal_skus(iccid))
        ]  # fmt: skip
        return several[0] if len(several) == 1 else several
