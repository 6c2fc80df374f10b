"""What the sandbox sells: SKUs, their plans, and partners with physical SIMs.

It is the same for every seed, and has the peculiarities of the vendor's catalogue: country codes
without leading zeros, a region, a retired code, names with dots and double spaces, two SKUs of
one country (so that an ``apiCode`` names two plans), and a SKU without plans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from attrs import evolve, frozen

from mioesim_async.sandbox.params import Params, Refusal, number
from mioesim_async.wire.endpoints import (
    GET_DP_SKU_SUPPORT_PACKAGE_INFO,
    GET_DP_SUPPORT_SKU_INFO,
    GET_PACKAGES,
    GET_PHYSICAL_SIM_DP_INFO,
    GET_SKU_BY_GROUP,
    GET_SKUS,
)

__all__ = [
    "CATALOGUE_HANDLERS", "PARTNERS", "PLANS", "PLANS_ON_SALE", "SEEDED_PRICE", "SKUS", "Plan",
    "SandboxSku", "find_plan", "find_plan_by_api_code", "package_row", "packages_row",
    "partner_skus", "renewable", "show_name",
]  # fmt: skip

GROUPS = ("Asia", "Europe", "Africa", "Latin America", "North America", "Oceania", "Common")
IMAGES = "http://127.0.0.1//image"


@frozen
class Plan:
    """One plan, as sold for several SKUs.

    Attributes:
        price_id: The vendor's id of it.
        flows: How much data, in ``unit``; per day for a day pass.
        unit: ``GB`` or ``MB``.
        days: Its length in days.
        price: Of one card; per day for a day pass.
        code: End of its ``apiCode``, after the country.
        flow_type: 0 renewable, 1 not.
        daypass: 0 none, 1 any days from ``min_day`` to ``max_day``, 2 fixed choices.
        must_date: 1 if an order needs its first day.
        fee: Added once for each card.
        min_day: Fewest days of a day pass.
        max_day: Most days of a day pass.
        choices: The days of a day pass with fixed choices.
    """

    price_id: int
    flows: float
    unit: str
    days: int
    price: float
    code: str
    flow_type: int = 0
    daypass: int = 0
    must_date: int = 0
    fee: float = 0.0
    min_day: int = 0
    max_day: int = 0
    choices: tuple[int, ...] = ()

    @property
    def data(self) -> str:
        """Its size with the unit."""
        return f"{self.flows}{self.unit}"

    @property
    def size_mb(self) -> float:
        """Its size in MB (1 GB = 1024 MB)."""
        return self.flows * (1024.0 if self.unit == "GB" else 1.0)

    def cost(self, days: int | None) -> Decimal:
        """Return the price of one card."""
        return Decimal(str(self.price)) * (days or 1) + Decimal(str(self.fee))


PLANS = {
    plan.price_id: plan
    for plan in (
        Plan(441, 1, "GB", 7, 12.1, "-0-7-1-G"),
        Plan(442, 500, "MB", 1, 1.15, "-0-?-500-M-D", daypass=1, must_date=1, fee=0.5,
             min_day=3, max_day=30),
        Plan(443, 3, "GB", 15, 5.35, "-0-15-3-G", flow_type=1),
        Plan(444, 1, "GB", 1, 2.3, "-0-?-1-G-D", daypass=2, min_day=5, max_day=15,
             choices=(5, 10, 15)),
        Plan(445, 10, "GB", 30, 21.0, "-0-30-10-G"),
        Plan(446, 5, "GB", 10, 8.7, "-1-10-5-G", must_date=1),
    )
}  # fmt: skip

SEEDED_PRICE = 441
"""The plan of seeded cards, which the account has from the start."""


@frozen
class SandboxSku:
    """One SKU.

    Attributes:
        sku_id: The vendor's id.
        display: Its name.
        country: ISO 3166-1 numeric without leading zeros, or 99xxx for a region.
        group: The group that it is listed in.
        plans: Ids of its plans.
        note: A note to buyers, or empty.
        coverage: The countries where it works; empty if its name is the only one.
        expires: Its ``expirydate``, or None; what the vendor means by it is not known.
    """

    sku_id: int
    display: str
    country: str
    group: str
    plans: tuple[int, ...]
    note: str = ""
    coverage: tuple[str, ...] = ()
    expires: str | None = None

    @property
    def row(self) -> dict[str, Any]:
        """The row in a list of SKUs."""
        return {"skuid": self.sku_id, "display": self.display, "countryCode": self.country}


SKUS = {
    sku.sku_id: sku
    for sku in (
        SandboxSku(45, "Japan", "392", "Asia", (441, 442, 443)),
        SandboxSku(71, "Thailand", "764", "Asia", (441, 442), expires="2030-12-31"),
        SandboxSku(102, "France", "250", "Europe", (441, 442, 443)),
        SandboxSku(46, "Japan", "392", "Asia", (441, 444), note="Another network"),
        SandboxSku(12, "Afghanistan", "4", "Asia", ()),
        SandboxSku(23, "China.HongKong", "344", "Asia", (441,)),
        SandboxSku(31, "South Korea", "410", "Asia", (441, 446)),
        SandboxSku(88, "Serbia", "891", "Europe", (441, 443)),
        SandboxSku(95, "Bosnia  and Herzegovina", "70", "Europe", (441,)),
        SandboxSku(56, "Algeria", "12", "Africa", (441, 445)),
        SandboxSku(120, "Brazil", "76", "Latin America", (441, 442)),
        SandboxSku(131, "United States", "840", "North America", (441, 442, 445)),
        SandboxSku(140, "Australia", "36", "Oceania", (441,)),
        SandboxSku(201, "Europe (3 countries)", "99001", "Common", (441, 444), "No calls",
                ("France", "Serbia", "Bosnia  and Herzegovina")),
    )
}  # fmt: skip

PARTNERS: Mapping[int, tuple[str, tuple[int, ...]]] = {
    11: ("Sandbox SIM", (45, 71, 131)),
    12: ("Other  Sandbox SIM", (12, 102)),
}
"""Partners with physical SIMs: their name, and the SKUs that their SIMs support."""

COUNTRY_CODES = {sku.display: int(sku.country) for sku in SKUS.values()}
"""The code of each country, by the name of its SKU."""

PLANS_ON_SALE = tuple((sku, PLANS[price_id]) for sku in SKUS.values() for price_id in sku.plans)
"""Everything that can be bought."""


def find_plan(sku_id: int, price_id: int) -> tuple[SandboxSku, Plan]:
    """Return a SKU and one of its plans; refuse if there is none."""
    for sku, plan in PLANS_ON_SALE:
        if (sku.sku_id, plan.price_id) == (sku_id, price_id):
            return sku, plan
    raise Refusal(3, "no such SKU or price")


def find_plan_by_api_code(api_code: str) -> tuple[SandboxSku, Plan]:
    """Return the first SKU that has a plan of this code (assumed); refuse if there is none."""
    for sku, plan in PLANS_ON_SALE:
        if api_code == sku.country + plan.code:
            return sku, plan
    raise Refusal(3, "no such apiCode")


def show_name(sku: SandboxSku, plan: Plan) -> str:
    """Return the name of a SKU's plan."""
    return f"{sku.display} {plan.data}{'/day' if plan.daypass else f' {plan.days} days'}"


def package_row(sku: SandboxSku, plan: Plan) -> dict[str, Any]:
    """Return a plan as the vendor writes it."""
    return {
        "priceid": plan.price_id,
        "pid": sku.sku_id * 1000 + plan.price_id,
        "flows": plan.flows,
        "unit": plan.unit,
        "days": plan.days,
        "price": float(plan.price),
        "openCardFee": plan.fee,
        "flowType": plan.flow_type,
        "supportDaypass": plan.daypass,
        "hadDaypassDetail": int(bool(plan.choices)),
        "minDay": plan.min_day,
        "maxDay": plan.max_day,
        "mustDate": plan.must_date,
        "expireDays": 180,
        "premark": f"<p>Use it within 180 days.{_choices(plan)}</p>",
        "showName": show_name(sku, plan),
        "singleDiscountDay": 0,
        "singleDiscount": 0.0,
        "maxDiscount": 0.0,
        "overlay": 0,
        "networkDtoList": _networks(sku),
        "countryImageUrlDtoList": [],
        "apiCode": sku.country + plan.code,
    }


def packages_row(sku: SandboxSku, name: str = "esimPackageDtoList") -> dict[str, Any]:
    """Return a SKU's plans as the vendor writes them, in the list of this name."""
    countries = sku.coverage or (sku.display,)
    return {
        "skuid": sku.sku_id,
        "detailId": sku.sku_id + 5000,
        "countrycode": sku.country,
        "display": sku.display,
        "displayEn": sku.display,
        "imageUrl": _image(sku.country),
        "supportCountry": list(countries),
        "expirydate": sku.expires,
        "countryImageUrlDtoList": [_country(name) for name in countries],
        name: [package_row(sku, PLANS[price_id]) for price_id in sku.plans],
    }


def renewable(sku: SandboxSku) -> SandboxSku:
    """Return a SKU with only the plans that can renew a card."""
    return evolve(sku, plans=tuple(n for n in sku.plans if PLANS[n].flow_type == 0))


def _country(name: str) -> dict[str, Any]:
    code = COUNTRY_CODES[name]
    return {"imageUrl": _image(code), "countryCode": code, "name": name, "nameEn": name}


def _image(country: str | int) -> str:
    return f"{IMAGES}/{country}.png"


def _choices(plan: Plan) -> str:
    return f" Days: {', '.join(map(str, plan.choices))}." if plan.choices else ""


def _networks(sku: SandboxSku) -> list[dict[str, Any]]:
    network = {"type": "4G", "operator": "Sandbox Mobile"}
    return [network | {"namecn": name, "nameen": name} for name in sku.coverage or (sku.display,)]


def _skus(_: Params) -> list[dict[str, Any]]:
    return [sku.row for sku in SKUS.values()]


def _groups(_: Params) -> dict[str, Any]:
    rows: dict[str, list[dict[str, Any]]] = {group: [] for group in GROUPS}
    for sku in SKUS.values():
        more = {
            "countryCode": int(sku.country),
            "continentCode": GROUPS.index(sku.group) + 1,
            "imageUrl": _image(sku.country),
            "note": sku.note,
            "search": sku.display.lower(),
        }
        rows[sku.group].append(sku.row | more)
    return {"continent": list(GROUPS), "data": rows}


def _packages(params: Params) -> dict[str, Any] | None:
    sku = SKUS.get(number(params, "skuId"))
    if sku is None:
        raise Refusal(3, "no such SKU")
    return packages_row(sku) if sku.plans else None


def _partners(_: Params) -> list[dict[str, Any]]:
    return [{"id": dp_id, "realName": name} for dp_id, (name, _) in PARTNERS.items()]


def partner_skus(dp_id: int) -> tuple[int, ...]:
    """Return the SKUs that a partner's SIMs support; refuse if there is no such partner."""
    if dp_id not in PARTNERS:
        raise Refusal(3, "no such dpId")
    return PARTNERS[dp_id][1]


def _partner_skus(params: Params) -> list[dict[str, Any]]:
    return [SKUS[sku_id].row for sku_id in partner_skus(number(params, "dpId", -10))]


def _partner_packages(params: Params) -> dict[str, Any] | None:
    supported, sku_id = partner_skus(number(params, "dpId", -10)), number(params, "skuid")
    if sku_id not in supported:
        raise Refusal(3, "no such SKU")
    sku: SandboxSku = SKUS[sku_id]
    if not sku.plans:
        return None
    return packages_row(sku, "esimPackageVoList") | {"networkVos": _networks(sku)}


CATALOGUE_HANDLERS: Mapping[str, Callable[[Params], Any]] = {
    GET_SKUS.path: _skus,
    GET_SKU_BY_GROUP.path: _groups,
    GET_PACKAGES.path: _packages,
    GET_PHYSICAL_SIM_DP_INFO.path: _partners,
    GET_DP_SUPPORT_SKU_INFO.path: _partner_skus,
    GET_DP_SKU_SUPPORT_PACKAGE_INFO.path: _partner_packages,
}
"""The handler of each endpoint for the catalogue and the partners, by path."""
