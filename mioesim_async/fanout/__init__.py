"""Split any number of items into batches, run them concurrently, stream what becomes of them."""

from mioesim_async.fanout.stream import BatchOutcome, BatchStream, fan_out

__all__ = ["BatchOutcome", "BatchStream", "fan_out"]
