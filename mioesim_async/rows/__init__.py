"""Reads the vendor's rows and replies into models."""

# Each of these modules adds the layouts of its models.
from mioesim_async.rows import cards, catalogue, orders

__all__ = ["cards", "catalogue", "orders"]
