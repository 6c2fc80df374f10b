"""``python -m mioesim_async.cli``."""

from mioesim_async.cli import main

main()
