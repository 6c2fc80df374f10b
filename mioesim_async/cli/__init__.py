"""The ``mioesim`` command."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from mioesim_async.cli.running import run

        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        # Before the command handles the signal, or after it has stopped handling it.
        sys.exit(130)
    except ModuleNotFoundError as error:
        if error.name not in ("cyclopts", "platformdirs", "rich"):
            raise
        sys.exit(
            f"mioesim: {error.name} is missing; install it with: pip install 'mioesim_async[cli]'"
        )
