"""Queues over HTTP: what exists, how deep it is, what it runs, and its dead letters."""
