"""Whether reads go by GET or by POST, found out within a call."""

from __future__ import annotations

from mioesim_async import errors
from mioesim_async.tokens.keeper import TokenKeeper
from mioesim_async.wire.dialect import ReadMethod
from mioesim_async.wire.endpoints import Endpoint, Safety

__all__ = ["MethodLook"]

NOT_UNDERSTOOD = frozenset({-2, -30})
"""Codes that may mean that the host didn't see the parameters where they were."""


class MethodLook:
    """Chooses the method of each attempt of one call.

    Reads go by GET, as documented. While no GET has succeeded, one that is answered with 405
    or HTML is tried by POST next, and POST is kept only if that succeeds.
    """

    __slots__ = ("_is_by_get", "_keeper", "_met_by_get")

    def __init__(self, endpoint: Endpoint, keeper: TokenKeeper) -> None:
        """Start with what is known of the host."""
        # What is documented as POST tells nothing about the reads that are documented as GET.
        self._is_by_get = endpoint.safety is Safety.READ and endpoint.method == "GET"
        self._keeper = keeper
        self._met_by_get: errors.MioEsimError | None = None

    @property
    def method(self) -> ReadMethod:
        """The method of the next attempt."""
        if not self._is_by_get or self._met_by_get is not None:
            return "POST"
        return self._keeper.dialect.read_method or "GET"

    @property
    def is_under_way(self) -> bool:
        """Whether the last attempt was by POST, to see if that is understood."""
        return self._met_by_get is not None

    @property
    def _is_open(self) -> bool:
        return self._is_by_get and self._keeper.dialect.read_method is None

    def answered(self, method: ReadMethod) -> None:
        """Keep a method that worked."""
        if self._is_open:
            self._keeper.learn_read_method(method)

    def goes_on_by_post(self, method: ReadMethod, failed: errors.MioEsimError) -> bool:
        """Tell whether an attempt by GET shall be followed by one by POST at once."""
        if not self._is_open or method == "POST":
            return False
        if isinstance(failed, errors.HttpStatusError):
            looks = failed.status == 405
        else:
            looks = isinstance(failed, errors.ProtocolError) and failed.reason == "html"
        if looks:
            self._met_by_get = failed
        return looks

    def verdict(self, method: ReadMethod, failed: errors.MioEsimError) -> errors.MioEsimError:
        """Return what a failed attempt comes to, and go back to GET."""
        met_by_get, self._met_by_get = self._met_by_get, None
        if self._is_open:
            if isinstance(failed, errors.ApiError):
                if failed.code not in NOT_UNDERSTOOD:
                    self._keeper.learn_read_method(method)
            elif isinstance(met_by_get, errors.ProtocolError):
                # POST is no better, so what the documented GET met is what counts.
                return met_by_get
        return failed
