"""Messages of the SDK in the words of the command line."""

from __future__ import annotations

import re

__all__ = ["in_commands", "in_options"]

COMMANDS = {
    "call orders.reconcile()": "run: mioesim orders reconcile",
    "take orders.new_reference() for": "take another reference for",
    "read it with orders.get()": "read it with: mioesim orders show ORDER",
    " (see .data)": "",
    " (.report has what was read)": "",
    "give both start and end": "give both --from and --to",
    "give other_order_id, start or end": "give --reference, --from or --to",
    "assume_absent_after=": "--assume-absent-after ",
    "pass allow_insecure_http=True": "add --allow-insecure-http",
    "Pass account=": "Set MIOESIM_ACCOUNT, or account in the profile, to ",
    " or account=": " or to ",
    "Pass iter(...) to have": "Give them in a file (-f) to have",
}
"""What an SDK's user would call, and which command does it."""

OPTIONS = {
    "sku_id": "SKU_ID",
    "price_id": "PRICE_ID",
    "api_code": "--api-code",
    "count": "--count",
    "daypass_days": "--days",
    "begin_date": "--begin-date",
    "dp_id": "--dp-id",
    "iccids": "--iccid",
    "iccid": "--iccid",
    "order_num": "--order",
    "customer_email": "--customer-email",
    "send_email": "--send-email",
    "pdf_language": "--pdf-language",
    "remark": "--remark",
    "other_order_id": "--reference",
    "other_item_id": "--item-reference",
}
"""The fields of a line; in a file they are the names of its columns."""

FIELD = re.compile(rf"(?<![\w-])({'|'.join(OPTIONS)})(?!\w)")


def in_commands(message: str) -> str:
    """Name commands, where a message names what Python calls."""
    for called, command in COMMANDS.items():
        message = message.replace(called, command)
    return message


def in_options(message: str) -> str:
    """Name options, where a message names the fields of a line."""
    return FIELD.sub(lambda found: OPTIONS[found[1]], message)
