"""`python -m taskfleet_api.announce FILE...`: announces the queues of TaskQueue files where nothing else does.

On Kubernetes the operator does this, on a laptop `taskfleet up` does; under compose this process does. It declares each
queue at the broker and writes it into the registry every 30 s, with the settings of the API.
"""

import argparse
import asyncio
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from taskfleet_api.background import KnownQueue
from taskfleet_api.background.declaring import build_queue_spec
from taskfleet_api.brokers import open_topology
from taskfleet_api.live import LiveStore
from taskfleet_api.settings import Settings
from taskfleet_core.ending import end_task
from taskfleet_core.errors import UnavailableError
from taskfleet_core.registrations import build_registrations
from taskfleet_core.taskqueue import TaskQueue, load_task_queues

__all__ = ["announce", "main"]

logger = structlog.get_logger()

REFRESH_SECONDS = 30
RETRY_SECONDS = 2


async def announce(settings: Settings, queues: Sequence[TaskQueue], mark: Path | None = None) -> None:
    """Declare the queues and write them into the registry, again and again; outages are waited out.

    `mark` is a file that is touched whenever all of it is done: workers must not start before.
    """
    management = settings.broker_management_url
    topology = open_topology(settings.broker_address, management.get_secret_value() if management else None)
    live = LiveStore(settings.redis_address)
    try:
        while True:
            try:
                entries = [
                    entry
                    for queue in queues
                    for entry in build_registrations(queue, time.time(), source="file", broker=settings.broker_name)
                ]
                for entry in entries:
                    spec = build_queue_spec(KnownQueue(entry["queueName"], entry, False, {}))
                    for degradation in await topology.ensure_queue(spec):
                        logger.warning("queue_degraded", queue=spec.name, detail=degradation.detail)
                    await live.register(entry)
                logger.info("queues_announced", queues=[entry["queueName"] for entry in entries])
                if mark is not None:
                    await asyncio.to_thread(mark.touch)
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


async def run(settings: Settings, queues: Sequence[TaskQueue], mark: Path | None) -> None:
    """Announce until SIGTERM or SIGINT."""
    announcing = asyncio.create_task(announce(settings, queues, mark))
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    asked = asyncio.create_task(stopping.wait())
    await asyncio.wait((announcing, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    await end_task(announcing)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m taskfleet_api.announce", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="YAML files with TaskQueue documents")
    parser.add_argument("--mark", type=Path, metavar="FILE", help="file to touch once all queues are announced")
    parsed = parser.parse_args(arguments)
    asyncio.run(run(Settings(), load_files(parsed.files), parsed.mark))


if __name__ == "__main__":
    main()
