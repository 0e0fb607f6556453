"""Events on TaskQueues, rate-limited: the same reason and message of one TaskQueue at most once in five minutes."""

import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from taskfleet_core.errors import TaskfleetError
from taskfleet_core.taskqueue import API_VERSION, KIND
from taskfleet_operator.kube import Kube
from taskfleet_operator.observed import EventToSend

__all__ = ["EventSender", "build_event"]

REPEAT_SECONDS = 300.0
MESSAGE_MAX_CHARACTERS = 1000
REMEMBERED = 10_000


def build_event(queue: dict[str, Any], event: EventToSend, now: datetime, name: str) -> dict[str, Any]:
    """The Event object."""
    metadata = queue["metadata"]
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": event.kind,
        "reason": str(event.reason),
        "message": event.message[:MESSAGE_MAX_CHARACTERS],
        "source": {"component": "taskfleet-operator"},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }


class EventSender:
    """Sends events; one that cannot be sent is dropped, since status and log tell the same."""

    def __init__(self, kube: Kube, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._monotonic = monotonic
        self._sent: dict[tuple[str, str, str], float] = {}

    async def send(self, queue: dict[str, Any], event: EventToSend) -> None:
        """Send, unless the same was sent a short while ago."""
        key = (queue["metadata"]["uid"], event.reason, event.message)
        now = self._monotonic()
        if now - self._sent.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        if len(self._sent) >= REMEMBERED:
            self._sent = {other: at for other, at in self._sent.items() if now - at < REPEAT_SECONDS}
        self._sent[key] = now
        name = f"{queue['metadata']['name']}.{uuid.uuid4().hex[:16]}"
        try:
            await self._kube.create(build_event(queue, event, datetime.now(UTC), name))
        except TaskfleetError:
            self._sent.pop(key, None)
