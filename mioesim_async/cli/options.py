"""Options and client of the commands that use an account."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

from attrs import frozen
from cyclopts import Parameter

from mioesim_async.cli import running
from mioesim_async.cli.accounts import AccountOptions, client_for
from mioesim_async.cli.running import Flag, guarded

if TYPE_CHECKING:
    from mioesim_async.client import MioEsimClient

__all__ = ["COMMON", "Common"]

AboveZero = running.AboveZero
"""cyclopts looks up the types of inherited options here, too."""


@Parameter(name="*")
@frozen
class Common(AccountOptions):
    """Options of every command that uses an account.

    Attributes:
        json: Print one JSON document instead of a table.
        debug: Show logs and tracebacks.
    """

    json: Annotated[bool, Flag] = False
    debug: Annotated[bool, Flag] = False

    def run(
        self,
        work: Callable[[MioEsimClient], Coroutine[Any, Any, int]],
        *,
        first: Callable[[], None] | None = None,
    ) -> int:
        """Run a command with a client of the chosen account, and return its exit status.

        Args:
            work: The command.
            first: Called before the event loop starts, for example to ask a person: there
                Ctrl-C ends it at once.
        """

        async def with_client() -> int:
            async with client_for(self) as client:
                return await work(client)

        def start() -> Coroutine[Any, Any, int]:
            if first is not None:
                first()
            return with_client()

        return guarded(start, debug=self.debug)


COMMON = Common()
"""The options if none is given."""
