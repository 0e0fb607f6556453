"""The same app on stock Celery with its Redis backend, told the settings that Taskfleet's loader sets for durability.

Late acknowledgement, one message in hand per process, a quorum queue, no track_started. It consumes from a queue that
exists, with Celery's own declaration.
"""

import os

from jobs import app
from kombu import Queue

QUEUE = os.environ["STOCK_QUEUE"]
app.conf.update(
    broker_url=os.environ["STOCK_BROKER_URL"],
    result_backend=os.environ["STOCK_REDIS_URL"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_default_queue=QUEUE,
    task_queues=[Queue(QUEUE, routing_key=QUEUE, queue_arguments={"x-queue-type": "quorum"})],
)

__all__ = ["app"]
