"""The packages of one SKU, from whichever endpoint."""

from __future__ import annotations

from collections.abc import Mapping

from mioesim_async.errors import ProtocolError
from mioesim_async.models.catalogue import SkuPackages
from mioesim_async.rows.catalogue import read_packages
from mioesim_async.slices import in_slices
from mioesim_async.transport.caller import Caller
from mioesim_async.transport.pace import Pace
from mioesim_async.wire.endpoints import Endpoint
from mioesim_async.wire.signing import Value

__all__ = ["packages_of"]


async def packages_of(
    caller: Caller,
    endpoint: Endpoint,
    params: Mapping[str, Value],
    sku_id: int,
    *,
    deadline: float | None,
    pace: Pace | None = None,
    probe: bool = False,
) -> SkuPackages:
    """Ask for the packages of one SKU.

    Raises:
        MioEsimError: If the call fails, or its reply holds something else.
    """
    envelope = await caller.call(endpoint, params, deadline=deadline, pace=pace, probe=probe)
    try:
        found = await in_slices(read_packages(envelope.data, sku_id))
    except ProtocolError as error:
        raise error.at(endpoint.path)
    for fault in found.bad_rows:
        fault.at(endpoint.path)
    return found
