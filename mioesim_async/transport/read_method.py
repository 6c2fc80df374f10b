"""Finds out whether reads go by GET or by POST."""

from __future__ import annotations

from mioesim_async import errors
from mioesim_async.tokens.keeper import TokenKeeper
from mioesim_async.wire.dialect import ReadMethod

__all__ = ["MethodTrial"]

PARAMETERS_NOT_SEEN = frozenset({-2, -30})
"""Codes that may mean that the host didn't find the parameters in the request."""


class MethodTrial:
    """Chooses the method of each attempt of a read until a method has worked.

    Reads go by GET (vendor-documented). Before the first success, a GET that is answered with 405
    or HTML is followed by a POST, and POST is used from then on if it works.
    """

    __slots__ = ("_get_error", "_keeper")

    def __init__(self, keeper: TokenKeeper) -> None:
        """Start with GET, unless the keeper knows the method."""
        self._keeper = keeper
        self._get_error: errors.MioEsimError | None = None

    @property
    def method(self) -> ReadMethod:
        """The method of the next attempt."""
        if self._get_error is not None:
            return "POST"
        return self._keeper.dialect.read_method or "GET"

    @property
    def is_trying_post(self) -> bool:
        """Whether a GET has failed and POST is being tried."""
        return self._get_error is not None

    @property
    def _is_undecided(self) -> bool:
        return self._keeper.dialect.read_method is None

    def answered(self, method: ReadMethod) -> None:
        """Note that a method worked."""
        if self._is_undecided:
            self._keeper.learn_read_method(method)

    def should_try_post(self, method: ReadMethod, failed: errors.MioEsimError) -> bool:
        """Tell whether to try POST at once after a failed GET."""
        if not self._is_undecided or method == "POST":
            return False
        if isinstance(failed, errors.HttpStatusError):
            may_take_post = failed.status == 405
        else:
            may_take_post = isinstance(failed, errors.ProtocolError) and failed.reason == "html"
        if may_take_post:
            self._get_error = failed
        return may_take_post

    def settle(self, method: ReadMethod, failed: errors.MioEsimError) -> errors.MioEsimError:
        """Return the error to handle after a failed attempt, and go back to GET."""
        failed_by_get, self._get_error = self._get_error, None
        if self._is_undecided:
            if isinstance(failed, errors.ApiError):
                if failed.code not in PARAMETERS_NOT_SEEN:
                    self._keeper.learn_read_method(method)
            elif isinstance(failed_by_get, errors.ProtocolError):
                # POST failed too, so return the error of the documented method.
                return failed_by_get
        return failed
