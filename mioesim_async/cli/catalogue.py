"""``mioesim skus``, ``packages`` and ``partners``: what can be bought."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from rich.table import Column

from mioesim_async.cli.examples import examples
from mioesim_async.cli.exit_status import FAILED, OK
from mioesim_async.cli.options import COMMON, Common
from mioesim_async.cli.printing import amount, fixed, number, print_json, print_table, progress
from mioesim_async.cli.running import Flag, app, say
from mioesim_async.errors import InvalidRequest
from mioesim_async.models.catalogue import CrawlStats, Package, Sku, SkuOutcome, SkuPackages
from mioesim_async.models.plain import to_dict

if TYPE_CHECKING:
    from mioesim_async.client import MioEsimClient

__all__: list[str] = []

partners = App(
    name="partners",
    help_epilogue=examples("partners"),
    help="Partners whose physical SIMs can be loaded with plans.",
)
app.command(partners)

SKU_COLUMNS = (number("SKU"), "Name", fixed("Country"), fixed("Code"))
PACKAGE_COLUMNS = (
    number("Price id"),
    number("Data"),
    number("Days"),
    number("Price"),
    fixed("per"),
    number("Fee"),
    fixed("Renew"),
    fixed("Begin"),
    fixed("API code"),
)


@app.command(help_epilogue=examples("skus"))
def skus(text: str = "", *, groups: Annotated[bool, Flag] = False, common: Common = COMMON) -> int:
    """List the SKUs: countries and regions for which packages are sold.

    Args:
        text: List only SKUs with this text in their name, or with this SKU id, country or group.
        groups: List SKUs by group, such as continents.
        common: Options of every command.
    """

    async def work(client: MioEsimClient) -> int:
        if groups:
            found = [
                (group.name, sku)
                for group in await client.catalogue.sku_groups()
                for sku in group.skus
                if _matches(sku, text) or text.casefold() == group.name.casefold()
            ]
        else:
            found = [("", sku) for sku in await client.catalogue.skus() if _matches(sku, text)]
        if common.json:
            group_of = [{"group": name} if groups else {} for name, _ in found]
            print_json(
                [more | _sku(sku) for more, (_, sku) in zip(group_of, found, strict=True)],
            )
        elif not found:
            say(f"no SKU matches {text!r}" if text else "there are no SKUs")
        elif groups:
            _print_skus([(name, *_sku_row(sku)) for name, sku in found], fixed("Group"))
        else:
            _print_skus([_sku_row(sku) for _, sku in found])
        return OK

    return common.run(work)


@app.command(help_epilogue=examples("packages"))
def packages(
    sku_id: int | None = None,
    *,
    everything: Annotated[bool, Parameter(name="--all", negative="", show_default=False)] = False,
    common: Common = COMMON,
) -> int:
    """List the packages of one SKU, or of all SKUs.

    Price and data of a day pass are for one day; the fee is added once for each card. The
    currency is not documented.

    Exit status of --all: 1 if the list is not complete, because something could not be read.

    Args:
        sku_id: The SKU, as ``mioesim skus`` lists it.
        everything: List the packages of every SKU.
        common: Options of every command.
    """

    async def work(client: MioEsimClient) -> int:
        if (sku_id is None) != everything:
            raise InvalidRequest("give a SKU id, or --all for the packages of every SKU")
        if sku_id is None:
            return await _crawl(client, common)
        return _show(await client.catalogue.packages(sku_id), common)

    return common.run(work)


@partners.default
@partners.command(name="list", help_epilogue=examples("partners list"))
def partners_list(*, common: Common = COMMON) -> int:
    """List the partners.

    Args:
        common: Options of every command.
    """

    async def work(client: MioEsimClient) -> int:
        found = await client.partners.list()
        if common.json:
            print_json(found)
        else:
            print_table((number("Partner"), "Name"), [(row.dp_id, row.name) for row in found])
        return OK

    return common.run(work)


@partners.command(name="skus", help_epilogue=examples("partners skus"))
def partner_skus(dp_id: int, *, common: Common = COMMON) -> int:
    """List the SKUs that a partner's SIMs can be loaded with.

    Args:
        dp_id: The partner, as ``mioesim partners`` lists it.
        common: Options of every command.
    """

    async def work(client: MioEsimClient) -> int:
        found = await client.partners.skus(dp_id)
        if common.json:
            print_json([_sku(sku) for sku in found])
        else:
            _print_skus(map(_sku_row, found))
        return OK

    return common.run(work)


@partners.command(name="packages", help_epilogue=examples("partners packages"))
def partner_packages(dp_id: int, sku_id: int, *, common: Common = COMMON) -> int:
    """List the packages of a SKU that a partner's SIMs can be loaded with.

    Args:
        dp_id: The partner, as ``mioesim partners`` lists it.
        sku_id: The SKU, as ``mioesim partners skus`` lists it.
        common: Options of every command.
    """

    async def work(client: MioEsimClient) -> int:
        return _show(await client.partners.packages(dp_id, sku_id), common)

    return common.run(work)


async def _crawl(client: MioEsimClient, common: Common) -> int:
    outcomes: list[SkuOutcome] = []
    async with client.catalogue.crawl() as crawl:
        with progress("Reading packages", None) as move:
            async for outcome in crawl:
                outcomes.append(outcome)
                move(len(outcomes), crawl.stats.listed)
    outcomes.sort(key=lambda outcome: ((outcome.sku.display or ""), outcome.sku.sku_id or 0))
    if common.json:
        print_json({"stats": crawl.stats, "skus": [_outcome(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            if outcome.packages is not None and outcome.packages.packages:
                _print_packages(outcome.packages, outcome.sku)
                print()
        print(_summary(crawl.stats))
    for outcome in outcomes:
        if outcome.error is not None:
            say(f"{_name(outcome.sku)}: {outcome.error}")
        for fault in outcome.bad_rows:
            say(f"{_name(outcome.sku)}: {fault}")
    return OK if crawl.stats.is_complete else FAILED


def _summary(stats: CrawlStats) -> str:
    ended = "complete" if stats.is_complete else "NOT COMPLETE"
    return (
        f"{stats.skus:,} of {stats.listed:,} SKUs, {stats.packages:,} packages, "
        f"{stats.without_plans:,} without packages, {stats.failed:,} failed, "
        f"{stats.bad_rows:,} unreadable rows: {ended}"
    )


def _outcome(outcome: SkuOutcome) -> dict[str, Any]:
    return {**to_dict(outcome), "sku": _sku(outcome.sku)}


def _show(found: SkuPackages, common: Common) -> int:
    if common.json:
        print_json(found)
    elif found.packages:
        _print_packages(found, Sku(found.sku_id, found.display))
    else:
        say(f"SKU {found.sku_id} has no packages")
    for fault in found.bad_rows:
        say(str(fault))
    return FAILED if found.bad_rows else OK


def _print_packages(found: SkuPackages, sku: Sku) -> None:
    rows = [_package_row(package) for package in found.packages]
    columns: tuple[str | Column, ...] = PACKAGE_COLUMNS
    if any(package.coverage != found.coverage for package in found.packages):
        columns = (*columns, "Coverage")
        rows = [
            (*row, " ".join(package.coverage))
            for row, package in zip(rows, found.packages, strict=True)
        ]
    coverage = f", works in {' '.join(found.coverage)}" if found.coverage else ""
    print_table(columns, rows, title=f"{_name(sku)}{coverage}")


def _package_row(package: Package) -> tuple[Any, ...]:
    days = package.days
    return (
        package.price_id,
        amount(package.data_mb),
        f"{package.min_days or 1}-{package.max_days or ''}" if package.is_day_pass else days,
        package.price,
        "day" if package.is_day_pass else "plan",
        package.open_card_fee or None,
        "yes" if package.is_renewable else "no",
        "needed" if package.needs_begin_date else None,
        package.api_code,
    )


def _matches(sku: Sku, text: str) -> bool:
    wanted = text.casefold()
    codes = (str(sku.sku_id), (sku.country or "").casefold(), sku.country_code)
    return wanted in (sku.display or "").casefold() or wanted in codes


def _sku(sku: Sku) -> dict[str, Any]:
    return {**to_dict(sku), "country": sku.country, "is_region": sku.is_region}


def _sku_row(sku: Sku) -> tuple[Any, ...]:
    return sku.sku_id, sku.display, "region" if sku.is_region else sku.country, sku.country_code


def _print_skus(rows: Iterable[tuple[Any, ...]], *before: Column) -> None:
    print_table((*before, *SKU_COLUMNS), rows)


def _name(sku: Sku) -> str:
    return f"{sku.display or '(no name)'} (SKU {sku.sku_id})"
