"""Calls over HTTP: connection pool, attempts, retries, limits."""
