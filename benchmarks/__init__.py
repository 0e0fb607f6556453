"""Measurements: what Taskfleet does per second and what it costs, beside services written the usual way."""
