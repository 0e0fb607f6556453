"""What Celery's consumer does when its broker goes away: come back within seconds, and never end for a name in use."""

from __future__ import annotations

import functools
from typing import Any

from amqp.exceptions import ResourceLocked

__all__ = ["install_reconnecting"]

# Celery waits 2, 4, 6 ... 30 s between two attempts: after a long outage workers would stand idle for half a minute.
FIRST_PAUSE_SECONDS = 0.5
PAUSE_STEP_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 3.0


def install_reconnecting(consumer: Any) -> None:
    """Retry in short intervals, and take an exclusive queue that is still locked for a lost connection.

    When a node of RabbitMQ dies, the others know the worker's own queues as its old connection's for a moment.
    """
    consumer.connection_errors = (*consumer.connection_errors, ResourceLocked)
    ensure = type(consumer).ensure_connected

    def ensure_connected(connection: Any) -> Any:
        connection.ensure_connection = functools.partial(
            connection.ensure_connection,
            interval_start=FIRST_PAUSE_SECONDS,
            interval_step=PAUSE_STEP_SECONDS,
            interval_max=LONGEST_PAUSE_SECONDS,
        )
        return ensure(consumer, connection)

    consumer.ensure_connected = ensure_connected
