"""Events on TaskQueues, rate-limited: the same one at most once in five minutes, and a few of any kind at a time."""

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
# A TaskQueue may send this many at once, and one more each so many seconds: a queue that scales each second tells it
# in its status and metrics, not in thousands of objects.
BURST, REFILL_SECONDS = 20, 15.0
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
        self._buckets: dict[str, tuple[float, float]] = {}  # uid -> (events left, when that was counted)

    async def send(self, queue: dict[str, Any], event: EventToSend) -> None:
        """Send, unless the same was sent a short while ago, or too many were."""
        key = (queue["metadata"]["uid"], event.reason, event.message)
        now = self._monotonic()
        if now - self._sent.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS or not self._take(key[0], now):
            return
        self._clean(now)
        self._sent[key] = now
        name = f"{queue['metadata']['name']}.{uuid.uuid4().hex[:16]}"
        try:
            await self._kube.create(build_event(queue, event, datetime.now(UTC), name))
        except TaskfleetError:
            self._sent.pop(key, None)

    def _take(self, uid: str, now: float) -> bool:
        """Whether this TaskQueue may send one more."""
        left, at = self._buckets.get(uid, (float(BURST), now))
        left = min(float(BURST), left + (now - at) / REFILL_SECONDS)
        self._buckets[uid] = (left - 1 if left >= 1 else left, now)
        return left >= 1

    def _clean(self, now: float) -> None:
        if len(self._sent) >= REMEMBERED:
            self._sent = {other: at for other, at in self._sent.items() if now - at < REPEAT_SECONDS}
        if len(self._buckets) >= REMEMBERED:
            full_after = BURST * REFILL_SECONDS
            self._buckets = {uid: (left, at) for uid, (left, at) in self._buckets.items() if now - at < full_after}
