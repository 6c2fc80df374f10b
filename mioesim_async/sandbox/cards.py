"""The sandbox's cards and their plans; one seed always makes the same cards."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

from mioesim_async.clock import GMT8
from mioesim_async.sandbox.catalogue import PLANS, SEEDED_PRICE, SKUS, packages_row, renewable
from mioesim_async.sandbox.clock import SandboxClock
from mioesim_async.sandbox.oddities import DAY_ENDS
from mioesim_async.sandbox.recorded import SandboxOrder, vendor_now

__all__ = ["AccountCards", "pdf_url", "vendor_time"]

STATUSES = ("ACTIVE",) * 12 + ("Enable",) * 4 + ("Disable",) * 3 + ("Delete",)
SIZES = ((1024, "1GB"), (3072, "3GB"), (6144, "6GB"), (500, "500MB"), (20480, "20GB"))
SEEDED_SKUS = (45, 71, 102)
FIRST_DAY = dt.date(2026, 1, 1)


def vendor_time(moment: dt.datetime) -> str:
    """Write a moment as the vendor does, in GMT+8."""
    return f"{moment:%Y-%m-%d %H:%M:%S}.0"


def pdf_url(iccid: str) -> str:
    """Return where a card's PDF would be, with the vendor's double slash."""
    return f"http://127.0.0.1//pdf/{iccid}.pdf"


class AccountCards:
    """Cards of one account, each computed from the seed and its number.

    Attributes:
        iccids: The cards, oldest first; ordered eSIMs are added at the end.
        orders_by_iccid: The orders and renewals of each card, oldest first.
        seeded: How many cards there were at the start.
    """

    def __init__(self, cards: int, seed: int, clock: SandboxClock) -> None:
        """Number the cards from 0."""
        self.seeded = cards
        self.orders_by_iccid: dict[str, list[SandboxOrder]] = {}
        self._seed = seed
        self._clock = clock
        self.iccids = [self._iccid(number) for number in range(cards)]
        self._numbers = {iccid: number for number, iccid in enumerate(self.iccids)}
        self._sims: set[str] = set()
        self._set: dict[str, dict[str, Any]] = {}
        self._by_order: dict[str, str] | None = None

    def __contains__(self, iccid: str) -> bool:
        """Tell whether there is such a card."""
        return iccid in self._numbers

    def _iccid(self, number: int) -> str:
        # Like the vendor's samples: some don't start with 89, and none passes the Luhn check.
        return f"{('8985', '8932', '1234')[number % 3]}{self._seed % 10_000:04d}{number:011d}"

    def add_esim(self) -> str:
        """Make a new eSIM and return its ICCID."""
        number = len(self.iccids)
        while (iccid := self._iccid(number)) in self:
            number += 1
        self._add(iccid)
        return iccid

    def add_sim(self, iccid: str) -> None:
        """Take a physical SIM into the account."""
        self._sims.add(iccid)
        if iccid not in self:
            self._add(iccid)

    def _add(self, iccid: str) -> None:
        self._numbers[iccid] = len(self.iccids)
        self.iccids.append(iccid)

    def _digest(self, iccid: str) -> bytes:
        return hashlib.blake2b(f"{self._seed}:{iccid}".encode(), digest_size=16).digest()

    def foreign_iccid(self, number: int) -> str:
        """Return the ICCID of a card of another account."""
        return f"8999{number:015d}"

    def is_seeded(self, iccid: str) -> bool:
        """Tell whether a card was there from the start; one of another account counts as seeded."""
        return self._numbers.get(iccid, -1) < self.seeded

    def current_order(self, iccid: str) -> SandboxOrder | None:
        """Return the order whose plan a card uses now, or None if that is its seeded plan."""
        orders = self.orders_by_iccid.get(iccid)
        if not orders:
            return None
        now = vendor_now(self._clock)
        begun = [order for order in orders if order.starts_at <= now]
        return begun[-1] if begun else None if self.is_seeded(iccid) else orders[0]

    def ends_at(self, iccid: str) -> dt.datetime:
        """Return when a card's last plan ends, GMT+8."""
        orders = self.orders_by_iccid.get(iccid)
        if orders:
            return orders[-1].ends_at
        return self.seeded_end(iccid)

    def seeded_end(self, iccid: str) -> dt.datetime:
        """Return when a seeded card's first plan ends, GMT+8: after the last day in its row."""
        end = self._first_day(iccid) + dt.timedelta(days=31)
        return dt.datetime.combine(end, dt.time(), GMT8)

    def seeded_sku(self, iccid: str) -> int:
        """Return the SKU of a seeded card."""
        return SEEDED_SKUS[self._digest(iccid)[4] % len(SEEDED_SKUS)]

    def seeded_card(self, order_num: str) -> str | None:
        """Return the seeded card that came with an order, or None."""
        if self._by_order is None:
            # Built at its first use, since a sandbox may have a hundred thousand cards.
            cards = reversed(self.iccids[: self.seeded])
            self._by_order = {self.first_order_num(iccid): iccid for iccid in cards}
        return self._by_order.get(order_num)

    def _first_day(self, iccid: str) -> dt.date:
        return FIRST_DAY + dt.timedelta(days=self._digest(iccid)[3])

    def _last_second(self, iccid: str) -> str:
        return f"{self._first_day(iccid) + dt.timedelta(days=30):%Y-%m-%d} {DAY_ENDS}"

    def status(self, iccid: str) -> dict[str, Any]:
        """Return a card's row in a batch reply."""
        digest = self._digest(iccid)
        size, text = SIZES[digest[1] % len(SIZES)]
        used = round(size * digest[2] / 255, 2)
        start = self._first_day(iccid)
        row: dict[str, Any] = {
            "iccid": iccid,
            "dpStatus": STATUSES[digest[0] % len(STATUSES)],
            "data": text,
            "usedMB": f"{used}",
            "remainingMB": round(size - used, 2),
            "validity": 30,
            "startDate": f"{start:%Y-%m-%d} 08:30:14.0",
            "endDate": self._last_second(iccid),
            "orderNum": self.first_order_num(iccid),
            "skuId": self.seeded_sku(iccid),
        }
        order = self.current_order(iccid)
        if order is not None:
            row |= self._plan_fields(order, self.used_mb(iccid, order))
        if iccid in self._set:
            row |= self._set[iccid]
            if "usedMB" in self._set[iccid]:
                whole = size if order is None else order.total_mb
                row["remainingMB"] = round(max(0.0, whole - float(row["usedMB"])), 2)
        return row

    def set(
        self, iccid: str, dp_status: str | None, used_mb: float | None, ends_at: dt.datetime | None
    ) -> None:
        """Set what a card's row says, whatever its plan would say; None leaves that."""
        values = {
            "dpStatus": dp_status,
            "usedMB": None if used_mb is None else f"{used_mb}",
            "endDate": None if ends_at is None else vendor_time(ends_at.astimezone(GMT8)),
        }
        self._set[iccid] = {name: value for name, value in values.items() if value is not None}

    def used_mb(self, iccid: str, order: SandboxOrder) -> float:
        """Return how much a card has used of a plan that was bought here, by whole days."""
        days = max(0, min(order.days, (vendor_now(self._clock) - order.starts_at).days))
        return round(order.total_mb * self._digest(iccid)[2] / 255 * days / order.days, 2)

    def _plan_fields(self, order: SandboxOrder, used: float) -> dict[str, Any]:
        now = vendor_now(self._clock)
        runs = order.starts_at <= now < order.ends_at
        return {
            "dpStatus": "ACTIVE" if runs else "Enable" if now < order.starts_at else "Disable",
            "data": order.data,
            "usedMB": f"{used}",
            "remainingMB": round(order.total_mb - used, 2),
            "validity": order.days,
            "startDate": vendor_time(order.starts_at),
            "endDate": vendor_time(order.ends_at),
            "orderNum": order.order_num,
            "skuId": order.sku_id,
        }

    def first_order_num(self, iccid: str) -> str:
        """Return the number of the order that a card came with."""
        if not self.is_seeded(iccid) and self.orders_by_iccid.get(iccid):
            return self.orders_by_iccid[iccid][0].order_num
        return f"EP20260101{int.from_bytes(self._digest(iccid)[6:9]) % 1_000_000:06d}"

    def detail(self, iccid: str) -> dict[str, Any]:
        """Return everything about a card; a physical SIM has no activation code."""
        row = self.status(iccid) | {"apn": "internet", "mobileNumber": ""}
        if iccid in self._sims:
            return row | dict.fromkeys(("code", "sm_dp_address", "activationCode", "pdfUrl"), "")
        address, matching = "smdp.sandbox.example", self._digest(iccid).hex().upper()[:20]
        return row | {
            "code": f"LPA:1${address}${matching}",
            "sm_dp_address": address,
            "activationCode": matching,
            "pdfUrl": pdf_url(iccid),
        }

    def history(self, iccid: str) -> list[dict[str, Any]]:
        """Return the plans that a card had, oldest first."""
        bought = [self._history_row(order) for order in self.orders_by_iccid.get(iccid, ())]
        return [*self._seeded_history(iccid), *bought] if self.is_seeded(iccid) else bought

    def _history_row(self, order: SandboxOrder) -> dict[str, Any]:
        return {
            "orderNum": order.order_num,
            "display": order.display,
            "status": int(order.status),
            "purchaseDate": vendor_time(order.purchased_at),
            "startDate": vendor_time(order.starts_at),
            "endDate": vendor_time(order.ends_at),
            "count": order.count,
            "price": float(order.price),
            "priceId": order.price_id,
            "renewal": order.is_renewal,
            "mainOrderNum": order.main_order_num,
        }

    def _seeded_history(self, iccid: str) -> list[dict[str, Any]]:
        start = self._first_day(iccid)
        return [
            {
                "orderNum": self.first_order_num(iccid),
                "display": f"{SKUS[self.seeded_sku(iccid)].display} 1GB 7 days",
                "status": 5 if vendor_now(self._clock) >= self.seeded_end(iccid) else 0,
                "purchaseDate": "2025-12-24 17:30:14.0",
                "startDate": f"{start:%Y-%m-%d} 08:30:14.0",
                "endDate": self._last_second(iccid),
                "count": 1,
                "price": float(PLANS[SEEDED_PRICE].price),
                "priceId": SEEDED_PRICE,
                "renewal": False,
                "mainOrderNum": None,
            }
        ]

    def _renewal_skus(self, iccid: str) -> list[int]:
        orders = self.orders_by_iccid.get(iccid)
        if orders and not self.is_seeded(iccid):
            return [orders[0].sku_id]
        return list(SEEDED_SKUS[: 1 + self._digest(iccid)[4] % len(SEEDED_SKUS)])

    def renewal_skus(self, iccid: str) -> list[dict[str, Any]]:
        """Return the SKUs that a card can be renewed with."""
        return [SKUS[sku_id].row for sku_id in self._renewal_skus(iccid)]

    def renewal_packages(self, iccid: str) -> list[dict[str, Any]]:
        """Return the packages that a card can be renewed with, by SKU."""
        skus = [renewable(SKUS[sku_id]) for sku_id in self._renewal_skus(iccid)]
        return [packages_row(sku, "esimPackageVoList") for sku in skus]
