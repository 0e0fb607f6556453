"""Announces the queues to the API: each half minute, and soon after one came, changed or went."""

import asyncio
import time
from collections.abc import Callable

import structlog

from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.events import QueueRegistration
from taskfleet_operator.store import Store

__all__ = ["register_queues"]

REFRESH_SECONDS = 30.0
LOOK_SECONDS = 0.5

_log = structlog.get_logger()


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
