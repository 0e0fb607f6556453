"""Services written the way that FastAPI and Celery tutorials show: what Taskfleet is measured against."""
