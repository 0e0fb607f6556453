"""Injected into an unmodified Celery app: loader, result backend and boot steps. Imports nothing of ours."""
