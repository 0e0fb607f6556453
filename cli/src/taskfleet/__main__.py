"""`python -m taskfleet`."""

from taskfleet.main import run

run()
