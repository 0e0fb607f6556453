"""The submission API: durable tasks over HTTP for any Celery app."""
