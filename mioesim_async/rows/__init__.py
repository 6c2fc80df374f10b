"""How the vendor's rows are read: the layout of each model's rows, and what each reply holds."""

# Each fills the layouts of its models.
from mioesim_async.rows import cards, catalogue, orders

__all__ = ["cards", "catalogue", "orders"]
