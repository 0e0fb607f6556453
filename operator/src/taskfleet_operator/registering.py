"""Announces the queues to the API: each half minute, and soon after one came, changed or went."""

import asyncio
import time
from collections.abc import Callable

import structlog

from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.events import QueueRegistration
from taskfleet_core.registrations import build_registrations
from taskfleet_operator.brokers import BrokerDirectory
from taskfleet_operator.indexing import QueueIndex
from taskfleet_operator.store import Store

__all__ = ["build_all_registrations", "register_queues"]

REFRESH_SECONDS = 30.0
LOOK_SECONDS = 0.5
SCALE_ONLY_BROKER = "secret"  # a name that no broker in the API's settings has

_log = structlog.get_logger()


def build_all_registrations(index: QueueIndex, brokers: BrokerDirectory, broker_name: str) -> list[QueueRegistration]:
    """All queues for the API. Of two on one queue the older one counts; a queue at the operator's own broker, which the
    API knows by `broker_name`, before one of the same name elsewhere, which can only be scaled."""
    registrations: dict[str, QueueRegistration] = {}
    placed = [entry for entry in index.iterate_valid() if entry.access is not None]
    for entry in sorted(placed, key=lambda entry: entry.seniority, reverse=True):
        queue, is_own = entry.queue, brokers.is_default(entry.access) if entry.access else False
        assert queue is not None
        broker = broker_name if is_own else SCALE_ONLY_BROKER
        for registration in build_registrations(queue, time.time(), source="operator", broker=broker):
            other = registrations.get(registration["queueName"])
            if is_own or other is None or other["broker"] == SCALE_ONLY_BROKER:
                registrations[registration["queueName"]] = registration
    return list(registrations.values())


async def register_queues(
    store: Store, get_revision: Callable[[], int], build: Callable[[], list[QueueRegistration]]
) -> None:
    """Repeat for ever; what fails is logged and tried again."""
    told: dict[str, object] = {}
    told_revision, told_at = -1, float("-inf")
    while True:
        revision = get_revision()
        if revision != told_revision or time.monotonic() - told_at > REFRESH_SECONDS:
            try:
                entries = build()
                core = {entry["queueName"]: {**entry, "at": 0} for entry in entries}
                if core != told or time.monotonic() - told_at > REFRESH_SECONDS:
                    await store.register(entries, told.keys() - core.keys())
                    told_at = time.monotonic()
                told, told_revision = dict(core), revision
            except StoreUnavailableError as error:
                _log.warning("registry.not_written", error=str(error))
            except Exception:  # an entry that nobody thought of must not silence all others
                _log.exception("registry.failed")
        await asyncio.sleep(LOOK_SECONDS)
