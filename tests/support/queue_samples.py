"""Samples of queues' history, as the API keeps them."""

from datetime import UTC, datetime
from typing import Any

from taskfleet_api.records import QueueSample

__all__ = ["AT", "build_sample"]

AT = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)  # the beginning of an interval of every length


def build_sample(**fields: Any) -> QueueSample:
    """A sample of a busy queue with what the test says, the rest as usual."""
    busy: dict[str, Any] = {
        "queue": "mail",
        "at": AT,
        "ready": 4,
        "running": 2.0,
        "desired": 1,
        "workers": 1,
        "arrivals_per_second": 2.0,
        "finished": 3,
        "failed": 1,
        "waits": {5: 2},
    }
    return QueueSample(**busy | fields)
