"""Endpoint coroutines, grouped as users think."""
