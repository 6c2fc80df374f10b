"""What to send to the customer of an eSIM: a page with the QR code, or a text.

All of it contains the activation code, and whoever sees that can use the customer's eSIM. Send
it to the customer only, and keep it out of logs and caches.
"""

from mioesim_async.delivery.brand import Brand
from mioesim_async.delivery.files import save
from mioesim_async.delivery.sheets import (
    CustomerSheet,
    customer_html,
    customer_sheets,
    customer_text,
)
from mioesim_async.delivery.texts import customer_texts, languages

__all__ = [
    "Brand",
    "CustomerSheet",
    "customer_html",
    "customer_sheets",
    "customer_text",
    "customer_texts",
    "languages",
    "save",
]
