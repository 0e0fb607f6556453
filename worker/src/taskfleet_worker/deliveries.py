"""What the store knows of a message that may have run before: whether it runs now, and how its process ended."""

from __future__ import annotations

import json
import logging

from . import _wire
from .encoding import encode_value
from .events import Identity
from .scripts import BEGIN, NOTE
from .settings import WorkerSettings
from .store import RETRYABLE, Store, persist

__all__ = ["ask_to_begin", "fetch_loss", "note_loss"]

logger = logging.getLogger("taskfleet.worker")


def ask_to_begin(store: Store, settings: WorkerSettings, identity: Identity, counts_deliveries: bool) -> str | int:
    """Whether a message that may have run before runs now: finished, cancelled, dead, or how often it did."""
    limit = settings.delivery_limit
    parameters = (
        2,
        _wire.TASK_KEY_PREFIX + identity.id,
        _wire.CANCELLED_KEY_PREFIX + identity.queue,
        identity.id,
        _wire.position(identity.attempt, identity.retries, _wire.RUNNING),
        limit if counts_deliveries and limit is not None else "",
        settings.live_ttl_seconds,
    )
    answer = persist(lambda: store.run(BEGIN, *parameters), identity.id)
    return answer.decode() if isinstance(answer, bytes) else int(answer)


def note_loss(store: Store, settings: WorkerSettings, identity: Identity, message: str) -> None:
    """Keep how the task's process ended, for the record of one that is dead at last; one attempt, no promise."""
    text = encode_value({"attempt": identity.attempt, "message": message})
    seconds = settings.live_ttl_seconds
    try:
        store.run(NOTE, 1, _wire.TASK_KEY_PREFIX + identity.id, _wire.LIVE_LOSS, text, seconds)
    except RETRYABLE as error:
        logger.warning("the end of the process of task %s is not noted: %s", identity.id, error)


def fetch_loss(store: Store, identity: Identity) -> str:
    """How the process of this attempt ended the last time; empty when nobody noted it."""
    try:
        text = store.command("HGET", _wire.TASK_KEY_PREFIX + identity.id, _wire.LIVE_LOSS)
    except RETRYABLE:
        return ""
    noted = json.loads(text) if text else {}
    return str(noted["message"]) if noted.get("attempt") == identity.attempt else ""
