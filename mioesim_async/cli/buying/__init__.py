"""Commands that spend money: ``mioesim order``, ``renew`` and ``cancel``."""
