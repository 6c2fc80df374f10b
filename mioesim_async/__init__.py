"""An asyncio SDK for the MIOeSIM reseller API.

Public names are imported at their first use, so that a program loads only what it needs.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from typing import TYPE_CHECKING

from mioesim_async._version import __version__

if TYPE_CHECKING:
    from mioesim_async import errors as errors
    from mioesim_async.api.cards import Cards as Cards
    from mioesim_async.api.catalogue import Catalogue as Catalogue, CatalogueCrawl as CatalogueCrawl
    from mioesim_async.api.orders.bulk import (
        BulkStats as BulkStats,
        LineOutcome as LineOutcome,
        OrderStream as OrderStream,
    )
    from mioesim_async.api.orders.orders import Orders as Orders
    from mioesim_async.api.orders.planning import PlannedLine as PlannedLine
    from mioesim_async.api.orders.reconcile import (
        Candidate as Candidate,
        ReconcileReport as ReconcileReport,
    )
    from mioesim_async.api.orders.search import OrderSearch as OrderSearch
    from mioesim_async.api.partners import Partners as Partners
    from mioesim_async.api.sweep import CardStream as CardStream, SweepStats as SweepStats
    from mioesim_async.client import (
        ClientOptions as ClientOptions,
        MioEsimClient as MioEsimClient,
    )
    from mioesim_async.clock import Clock as Clock
    from mioesim_async.config import (
        Credentials as Credentials,
        PoolLimits as PoolLimits,
        RetryPolicy as RetryPolicy,
        Timeouts as Timeouts,
    )
    from mioesim_async.delivery import (
        Brand as Brand,
        CustomerSheet as CustomerSheet,
        customer_html as customer_html,
        customer_sheets as customer_sheets,
        customer_text as customer_text,
    )
    from mioesim_async.fanout import (
        BatchOutcome as BatchOutcome,
        BatchStream as BatchStream,
        fan_out as fan_out,
    )
    from mioesim_async.journal.entry import (
        EntryState as EntryState,
        Journal as Journal,
        JournalEntry as JournalEntry,
    )
    from mioesim_async.journal.postgres import PostgresOrderJournal as PostgresOrderJournal
    from mioesim_async.journal.sqlite import OrderJournal as OrderJournal
    from mioesim_async.models.activation import (
        ActivationCode as ActivationCode,
        InstallLinks as InstallLinks,
    )
    from mioesim_async.models.api_code import ApiCode as ApiCode
    from mioesim_async.models.cards import (
        CardDetail as CardDetail,
        CardOutcome as CardOutcome,
        CardReport as CardReport,
        CardStatus as CardStatus,
        DpStatus as DpStatus,
        PastPlan as PastPlan,
    )
    from mioesim_async.models.catalogue import (
        CrawlStats as CrawlStats,
        Package as Package,
        Partner as Partner,
        Sku as Sku,
        SkuGroup as SkuGroup,
        SkuOutcome as SkuOutcome,
        SkuPackages as SkuPackages,
    )
    from mioesim_async.models.json_schema import json_schema as json_schema
    from mioesim_async.models.order_lines import (
        OrderLine as OrderLine,
        RenewalLine as RenewalLine,
        new_reference as new_reference,
    )
    from mioesim_async.models.orders import (
        Order as Order,
        OrderCard as OrderCard,
        OrderStatus as OrderStatus,
        OrderUsage as OrderUsage,
        PlanUsage as PlanUsage,
        UsagePage as UsagePage,
    )
    from mioesim_async.models.plain import to_dict as to_dict
    from mioesim_async.tokens.file import FileTokenStore as FileTokenStore
    from mioesim_async.tokens.redis import RedisTokenStore as RedisTokenStore
    from mioesim_async.tokens.store import (
        MemoryTokenStore as MemoryTokenStore,
        StoredToken as StoredToken,
        TokenStore as TokenStore,
    )
    from mioesim_async.transport.metrics import (
        AttemptRecord as AttemptRecord,
        ClientStats as ClientStats,
        Health as Health,
    )
    from mioesim_async.transport.pool import SessionManager as SessionManager
    from mioesim_async.transport.shared_rate import SharedRateLimit as SharedRateLimit
    from mioesim_async.wire.dialect import Dialect as Dialect
    from mioesim_async.wire.endpoints import Safety as Safety

logging.getLogger("mioesim_async").addHandler(logging.NullHandler())

_NAMES_OF_MODULE = {
    "api.cards": ("Cards",),
    "api.catalogue": ("Catalogue", "CatalogueCrawl"),
    "api.orders.bulk": ("BulkStats", "LineOutcome", "OrderStream"),
    "api.orders.orders": ("Orders",),
    "api.orders.planning": ("PlannedLine",),
    "api.orders.reconcile": ("Candidate", "ReconcileReport"),
    "api.orders.search": ("OrderSearch",),
    "api.partners": ("Partners",),
    "api.sweep": ("CardStream", "SweepStats"),
    "client": ("ClientOptions", "MioEsimClient"),
    "clock": ("Clock",),
    "config": ("Credentials", "PoolLimits", "RetryPolicy", "Timeouts"),
    "delivery": (
        "Brand", "CustomerSheet", "customer_html", "customer_sheets", "customer_text",
    ),
    "fanout": ("BatchOutcome", "BatchStream", "fan_out"),
    "journal.entry": ("EntryState", "Journal", "JournalEntry"),
    "journal.postgres": ("PostgresOrderJournal",),
    "journal.sqlite": ("OrderJournal",),
    "models.activation": ("ActivationCode", "InstallLinks"),
    "models.api_code": ("ApiCode",),
    "models.cards": (
        "CardDetail", "CardOutcome", "CardReport", "CardStatus", "DpStatus", "PastPlan",
    ),
    "models.catalogue": (
        "CrawlStats", "Package", "Partner", "Sku", "SkuGroup", "SkuOutcome", "SkuPackages",
    ),
    "models.json_schema": ("json_schema",),
    "models.order_lines": ("OrderLine", "RenewalLine", "new_reference"),
    "models.orders": ("Order", "OrderCard", "OrderStatus", "OrderUsage", "PlanUsage", "UsagePage"),
    "models.plain": ("to_dict",),
    "tokens.file": ("FileTokenStore",),
    "tokens.redis": ("RedisTokenStore",),
    "tokens.store": ("MemoryTokenStore", "StoredToken", "TokenStore"),
    "transport.metrics": ("AttemptRecord", "ClientStats", "Health"),
    "transport.pool": ("SessionManager",),
    "transport.shared_rate": ("SharedRateLimit",),
    "wire.dialect": ("Dialect",),
    "wire.endpoints": ("Safety",),
}  # fmt: skip
"""The same names as in the imports above, which only type checkers read.

A test compares the two.
"""
_MODULE_OF_NAME = {name: module for module, names in _NAMES_OF_MODULE.items() for name in names}

_LIBRARY_OF_EXTRA = {"journal.postgres": "asyncpg", "tokens.redis": "redis"}

__all__ = ["__version__", "errors"]
__all__ += [  # pyright: ignore[reportUnsupportedDunderAll]
    name
    for name, module in _MODULE_OF_NAME.items()
    # `import *` must not fail if an extra isn't installed.
    if module not in _LIBRARY_OF_EXTRA
    or importlib.util.find_spec(_LIBRARY_OF_EXTRA[module]) is not None
]


if not TYPE_CHECKING:
    # Hidden from type checkers: with it, they would accept any name.

    def __getattr__(name):
        """Load a public name at its first use."""
        if name == "errors":
            return importlib.import_module("mioesim_async.errors")
        module = _MODULE_OF_NAME.get(name)
        if module is None:
            raise AttributeError(f"module 'mioesim_async' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"mioesim_async.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
