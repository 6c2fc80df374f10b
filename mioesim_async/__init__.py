"""An asyncio SDK for the MIOeSIM reseller API.

Names are loaded at their first use, so that the pytest plugin that comes with the package
costs a test run that doesn't use it nothing.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING

from mioesim_async._version import __version__

if TYPE_CHECKING:
    from mioesim_async import errors as errors
    from mioesim_async.api.batches import SweepStats as SweepStats
    from mioesim_async.api.cards import Cards as Cards
    from mioesim_async.api.stream import CardStream as CardStream
    from mioesim_async.client import MioEsimClient as MioEsimClient
    from mioesim_async.fanout import (
        BatchOutcome as BatchOutcome,
        BatchStream as BatchStream,
        fan_out as fan_out,
    )
    from mioesim_async.models.activation import ActivationCode as ActivationCode
    from mioesim_async.models.cards import (
        CardDetail as CardDetail,
        CardOutcome as CardOutcome,
        CardReport as CardReport,
        CardStatus as CardStatus,
        DpStatus as DpStatus,
        PastPlan as PastPlan,
    )
    from mioesim_async.models.catalogue import (
        Package as Package,
        Sku as Sku,
        SkuPackages as SkuPackages,
    )
    from mioesim_async.models.converter import to_dict as to_dict
    from mioesim_async.tokens.file import FileTokenStore as FileTokenStore
    from mioesim_async.tokens.redis import RedisTokenStore as RedisTokenStore
    from mioesim_async.tokens.store import (
        MemoryTokenStore as MemoryTokenStore,
        StoredToken as StoredToken,
        TokenStore as TokenStore,
    )
    from mioesim_async.transport.clock import Clock as Clock
    from mioesim_async.transport.config import (
        Credentials as Credentials,
        PoolLimits as PoolLimits,
        RetryPolicy as RetryPolicy,
        Timeouts as Timeouts,
    )
    from mioesim_async.transport.manager import SessionManager as SessionManager
    from mioesim_async.transport.records import (
        AttemptRecord as AttemptRecord,
        ClientStats as ClientStats,
    )
    from mioesim_async.wire.dialect import Dialect as Dialect
    from mioesim_async.wire.endpoints import Safety as Safety

logging.getLogger("mioesim_async").addHandler(logging.NullHandler())

_HOMES = {
    "api.batches": ("SweepStats",),
    "api.cards": ("Cards",),
    "api.stream": ("CardStream",),
    "client": ("MioEsimClient",),
    "fanout": ("BatchOutcome", "BatchStream", "fan_out"),
    "models.activation": ("ActivationCode",),
    "models.cards": (
        "CardDetail", "CardOutcome", "CardReport", "CardStatus", "DpStatus", "PastPlan",
    ),
    "models.catalogue": ("Package", "Sku", "SkuPackages"),
    "models.converter": ("to_dict",),
    "tokens.file": ("FileTokenStore",),
    "tokens.redis": ("RedisTokenStore",),
    "tokens.store": ("MemoryTokenStore", "StoredToken", "TokenStore"),
    "transport.clock": ("Clock",),
    "transport.config": ("Credentials", "PoolLimits", "RetryPolicy", "Timeouts"),
    "transport.manager": ("SessionManager",),
    "transport.records": ("AttemptRecord", "ClientStats"),
    "wire.dialect": ("Dialect",),
    "wire.endpoints": ("Safety",),
}  # fmt: skip
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", "errors"]
__all__ += [*_HOME]  # noqa: PLE0604  # pyright: ignore[reportUnsupportedDunderAll]


if not TYPE_CHECKING:
    # Hidden from type checkers, which would take any name for one of ours.

    def __getattr__(name):
        """Load a public name at its first use."""
        if name == "errors":
            return importlib.import_module("mioesim_async.errors")
        module = _HOME.get(name)
        if module is None:
            raise AttributeError(f"module 'mioesim_async' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"mioesim_async.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
