"""Two examples of each command, for the end of its help."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EXAMPLES", "examples"]

EXAMPLES: Mapping[str, tuple[str, str]] = {
    "query": (
        "mioesim query -f cards.csv -c ICCID -o result.csv",
        "mioesim query -f cards.txt -o result.jsonl --quiet --resume",
    ),
    "card": (
        "mioesim card 8985000000000000000",
        "mioesim card 8985000000000000000 --json",
    ),
    "history": (
        "mioesim history 8985000000000000000",
        "mioesim history 8985000000000000000 --json",
    ),
    "skus": ("mioesim skus japan", "mioesim skus --groups"),
    "packages": ("mioesim packages 45", "mioesim packages --all --json"),
    "partners": ("mioesim partners", "mioesim partners skus 3"),
    "partners list": ("mioesim partners list", "mioesim partners list --json"),
    "partners skus": ("mioesim partners skus 3", "mioesim partners skus 3 --json"),
    "partners packages": (
        "mioesim partners packages 3 45",
        "mioesim partners packages 3 45 --json",
    ),
    "order": (
        "mioesim order 45 441 --count 2 --reference shop-1017",
        "mioesim order -f orders.csv --max-spend 500 --result result.csv",
    ),
    "renew": (
        "mioesim renew 45 441 --iccid 8985000000000000000",
        "mioesim renew 45 441 --order EP20260101000001 --dry-run",
    ),
    "cancel": (
        "mioesim cancel EP20260101000001 8985000000000000000",
        "mioesim cancel EP20260101000001 --all --dry-run",
    ),
    "orders": ("mioesim orders show EP20260101000001", "mioesim orders reconcile"),
    "orders show": (
        "mioesim orders show EP20260101000001",
        "mioesim orders show EP20260101000001 --json",
    ),
    "orders search": (
        "mioesim orders search --reference shop-1017",
        "mioesim orders search --from 2026-01-01 --to 2026-01-31",
    ),
    "orders reconcile": (
        "mioesim orders reconcile",
        "mioesim orders reconcile --assume-absent-after 2d",
    ),
    "orders open": ("mioesim orders open", "mioesim orders open --json"),
    "qr": (
        "mioesim qr 8985000000000000000",
        "mioesim qr 8985000000000000000 -o code.png",
    ),
    "pdf": (
        "mioesim pdf EP20260101000001",
        "mioesim pdf EP20260101000001 --email customer@shop.example",
    ),
    "sandbox": (
        "mioesim sandbox --cards 1000 --port 8080",
        "mioesim sandbox --control --fault 'http=503@queryIccidInformation*10'",
    ),
}
"""By the command's words."""


def examples(command: str) -> str:
    """Return what stands at the end of a command's help."""
    lines = "\n".join(f"    {line}" for line in EXAMPLES[command])
    return f"Examples:\n\n{lines}"
