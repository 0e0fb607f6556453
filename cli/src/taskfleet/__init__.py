"""Command line, Python client and local mode."""
