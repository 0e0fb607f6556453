"""`python -m taskfleet_api.announce FILE...`: announces the queues of TaskQueue files where nothing else does.

On Kubernetes the operator does this, on a laptop `taskfleet up` does; under compose this process does. It declares each
queue at the broker and writes it into the registry every 30 s, with the settings of the API.
"""

import argparse
import asyncio
import contextlib
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from taskfleet_api.brokers import QueueSpec, open_topology
from taskfleet_api.live import LiveStore
from taskfleet_api.settings import Settings
from taskfleet_core import wire
from taskfleet_core.errors import UnavailableError
from taskfleet_core.events import QueueRegistration
from taskfleet_core.taskqueue import TaskQueue, load_task_queues

__all__ = ["announce", "build_queue_spec", "build_registration", "main"]

logger = structlog.get_logger()

REFRESH_SECONDS = 30
RETRY_SECONDS = 2
CONSUMER_TIMEOUT_MARGIN_SECONDS = 60


def build_registration(queue: TaskQueue, broker: str, now: float) -> QueueRegistration:
    """The registry's entry for a TaskQueue of a file."""
    return QueueRegistration(
        schema=wire.SCHEMA_VERSION,
        namespace=queue.metadata.namespace,
        name=queue.name,
        queueName=queue.queue_name,
        uid=queue.metadata.uid or f"file-{queue.name}",
        broker=broker,
        limits=queue.build_limits(),
        at=now,
    )


def build_queue_spec(queue: TaskQueue) -> QueueSpec:
    """The delivery rules of a TaskQueue at the broker."""
    delivery = queue.spec.delivery
    return QueueSpec(
        name=queue.queue_name,
        delivery_limit=delivery.limit,
        dead_letter=delivery.dead_letter,
        max_length=delivery.max_length,
        message_ttl_seconds=delivery.message_ttl_seconds,
        consumer_timeout_seconds=queue.spec.worker.max_task_seconds + CONSUMER_TIMEOUT_MARGIN_SECONDS,
    )


async def announce(settings: Settings, queues: Sequence[TaskQueue]) -> None:
    """Declare the queues and write them into the registry, again and again; outages are waited out."""
    management = settings.broker_management_url
    topology = open_topology(
        settings.broker_url.get_secret_value(), management.get_secret_value() if management else None
    )
    live = LiveStore(settings.redis_url.get_secret_value())
    try:
        while True:
            try:
                for queue in queues:
                    for degradation in await topology.ensure_queue(build_queue_spec(queue)):
                        logger.warning("queue_degraded", queue=queue.queue_name, detail=degradation.detail)
                    await live.register(build_registration(queue, settings.broker_name, time.time()))
                logger.info("queues_announced", queues=[queue.queue_name for queue in queues])
                pause: float = REFRESH_SECONDS
            except UnavailableError as error:
                logger.warning("announcing_waits", error=str(error))
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)
    finally:
        await live.close()
        await topology.close()


def load_files(paths: Iterable[Path]) -> list[TaskQueue]:
    """The TaskQueues of all files. Raises InvalidInputError."""
    return [queue for path in paths for queue in load_task_queues(path)]


async def run(settings: Settings, queues: Sequence[TaskQueue]) -> None:
    """Announce until SIGTERM or SIGINT."""
    task = asyncio.create_task(announce(settings, queues))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m taskfleet_api.announce", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="YAML files with TaskQueue documents")
    asyncio.run(run(Settings(), load_files(parser.parse_args(arguments).files)))


if __name__ == "__main__":
    main()
