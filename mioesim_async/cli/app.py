"""The commands, and the running of one of them."""

from __future__ import annotations

from importlib import import_module

from mioesim_async.cli import running

__all__ = ["run"]

MODULES = (
    "commands_query",
    "commands_catalogue",
    "commands_cards",
    "commands_buying",
    "commands_orders",
    "commands_sandbox",
)
"""Importing one registers its commands."""

ALONE = {"query": "commands_query", "sandbox": "commands_sandbox"}
"""Commands that are started without the others: importing all takes a quarter of a second."""

running.app.register_install_completion_command(
    help="Install completion for bash, zsh, fish or PowerShell (--shell names another)."
)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit status."""
    first = arguments[0] if arguments else ""
    for module in (ALONE[first],) if first in ALONE else MODULES:
        import_module(f"mioesim_async.cli.{module}")
    return running.run(arguments)
