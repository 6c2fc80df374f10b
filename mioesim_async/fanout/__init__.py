"""Splits any number of items into batches, runs these concurrently, and streams the outcomes."""

from mioesim_async.fanout.stream import BatchOutcome, BatchStream, fan_out

__all__ = ["BatchOutcome", "BatchStream", "fan_out"]
