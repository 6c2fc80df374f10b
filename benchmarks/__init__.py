"""Measurements, against a sandbox in a process of its own."""
