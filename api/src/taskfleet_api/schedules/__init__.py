"""Periodic tasks over HTTP."""
