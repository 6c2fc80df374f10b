"""Tests for what users write themselves; needs pytest, and no plugin of it."""

import pytest

# Before the import of these modules, so that a failed assertion shows its values.
pytest.register_assert_rewrite("mioesim_async.testing.journal_contract")
