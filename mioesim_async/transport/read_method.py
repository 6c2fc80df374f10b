"""Whether reads go by GET or by POST, found out within a call."""

from __future__ import annotations

from mioesim_async import errors
from mioesim_async.tokens.keeper import TokenKeeper
from mioesim_async.wire.dialect import ReadMethod

__all__ = ["MethodTrial"]

NOT_UNDERSTOOD = frozenset({-2, -30})
"""Codes that may mean that the host didn't see the parameters where they were."""


class MethodTrial:
    """Chooses the method of each attempt of a read, while it is not known which one works.

    Reads go by GET, as documented. While no GET has succeeded, one that is answered with 405
    or HTML is tried by POST next, and POST is kept only if that succeeds.
    """

    __slots__ = ("_failed_by_get", "_keeper")

    def __init__(self, keeper: TokenKeeper) -> None:
        """Start with what is known of the host."""
        self._keeper = keeper
        self._failed_by_get: errors.MioEsimError | None = None

    @property
    def method(self) -> ReadMethod:
        """The method of the next attempt."""
        if self._failed_by_get is not None:
            return "POST"
        return self._keeper.dialect.read_method or "GET"

    @property
    def is_under_way(self) -> bool:
        """Whether the last attempt was by POST, to see if that is understood."""
        return self._failed_by_get is not None

    @property
    def _is_open(self) -> bool:
        return self._keeper.dialect.read_method is None

    def answered(self, method: ReadMethod) -> None:
        """Keep a method that worked."""
        if self._is_open:
            self._keeper.learn_read_method(method)

    def goes_on_by_post(self, method: ReadMethod, failed: errors.MioEsimError) -> bool:
        """Tell whether an attempt by GET shall be followed by one by POST at once."""
        if not self._is_open or method == "POST":
            return False
        if isinstance(failed, errors.HttpStatusError):
            may_take_post = failed.status == 405
        else:
            may_take_post = isinstance(failed, errors.ProtocolError) and failed.reason == "html"
        if may_take_post:
            self._failed_by_get = failed
        return may_take_post

    def verdict(self, method: ReadMethod, failed: errors.MioEsimError) -> errors.MioEsimError:
        """Return what a failed attempt comes to, and go back to GET."""
        failed_by_get, self._failed_by_get = self._failed_by_get, None
        if self._is_open:
            if isinstance(failed, errors.ApiError):
                if failed.code not in NOT_UNDERSTOOD:
                    self._keeper.learn_read_method(method)
            elif isinstance(failed_by_get, errors.ProtocolError):
                # POST is no better, so what the documented GET met is what counts.
                return failed_by_get
        return failed
