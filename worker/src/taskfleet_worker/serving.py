"""One worker for several queues: which task starts next, and what the worker may hold meanwhile.

A weight is a share of starts: while tasks of several queues wait, they start in the ratio of the weights; a queue
with nothing to do leaves its share to the others.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from celery.worker import state as worker_state

from .events import find_queue

__all__ = ["Gate", "Shares", "WeightedCycle", "return_message", "use_weights"]

logger = logging.getLogger("taskfleet.worker")

BASIC_NACK = (60, 120)
PREFETCH_PER_SLOT = 2
STUCK_SECONDS = 2.0
# From this version on a nack does not count as a failed delivery.
FREE_RETURNS_SINCE = (4, 3)


class Shares:
    """Smooth weighted round robin. A queue that is not there gathers no claims."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = weights
        self._credit: dict[str, int] = {}

    def sort(self, names: Iterable[str]) -> list[str]:
        """The names, whose turn it is first."""
        return sorted(names, key=lambda name: -(self._credit.get(name, 0) + self._weight(name)))

    def take(self, name: str, among: Iterable[str]) -> None:
        """One task of this queue starts; `among` had some."""
        total = 0
        for other in {*among, name}:
            total += self._weight(other)
            self._credit[other] = self._credit.get(other, 0) + self._weight(other)
        self._credit[name] -= total
        bound = sum(self._weights.values()) or 1
        for other, credit in self._credit.items():
            self._credit[other] = max(-bound, min(bound, credit))

    def _weight(self, name: str) -> int:
        return self._weights.get(name, 1)


_weights: dict[str, int] = {}


def use_weights(weights: Mapping[str, int]) -> None:
    """The weights for kombu's Redis transport, which makes its cycle itself."""
    _weights.clear()
    _weights.update(weights)


class WeightedCycle:
    """kombu's `queue_order_strategy` on Redis: it asks all queues at once, and the first one that has a task gives it.

    Which others have one it does not say, so each take counts against all.
    """

    def __init__(self, it: Iterable[str] | None = None) -> None:
        self._items = list(it or ())
        self._shares = Shares(_weights)

    def update(self, it: Iterable[str]) -> None:
        """The queues that are consumed now."""
        self._items[:] = it

    def consume(self, n: int) -> list[str]:
        """Up to `n` queues in the order in which they are asked."""
        return self._shares.sort(self._items)[:n]

    def rotate(self, last_used: str) -> str:
        """This one gave a task."""
        if last_used in self._items:
            self._shares.take(last_used, self._items)
        return last_used


class Gate:
    """Between RabbitMQ and Celery. Quorum queues know a prefetch for each consumer only, none for the channel: a
    worker of several queues gets more than it can run. The gate lets in what has a slot, by weight, and holds the rest.
    What would be held for long, behind tasks that take their time, goes back for other workers, and none is taken
    until a slot is free. All methods run in the event loop.
    """

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.is_open = True  # closed while the worker is fenced or leaves
        self._shares = Shares(weights)
        self._held: dict[str, deque[tuple[Any, Callable[[Any], Any]]]] = {name: deque() for name in weights}
        self._slots = 0
        self._full_since: float | None = None
        self._returns_are_free = False
        self._is_feeding = False

    def install(self, consumer: Any) -> None:
        """Stand before the handler of messages; again after each reconnect, when what was held is the broker's."""
        for held in self._held.values():
            held.clear()
        self._slots = consumer.pool.num_processes
        # Tasks of one queue may have all slots: as many again, so that there is something to choose from.
        consumer.qos.value = PREFETCH_PER_SLOT * self._slots
        consumer.task_consumer.qos(prefetch_count=consumer.qos.value, apply_global=False)
        self._returns_are_free = _read_version(consumer) >= FREE_RETURNS_SINCE
        create = type(consumer).create_task_handler

        def create_task_handler(*args: Any, **kwargs: Any) -> Callable[[Any], None]:
            receive = create(consumer, *args, **kwargs)

            def on_task_received(message: Any) -> None:
                self._held[self._find_queue(message)].append((message, receive))
                self.feed()

            return on_task_received

        consumer.create_task_handler = create_task_handler

    def feed(self) -> None:
        """Let in as many as have a slot."""
        if self._is_feeding or not self.is_open:  # the solo pool runs a task within `receive`
            return
        self._is_feeding = True
        try:
            while len(worker_state.reserved_requests) < self._slots:
                names = [name for name, held in self._held.items() if held]
                if not names:
                    return
                name = self._shares.sort(names)[0]
                self._shares.take(name, names)
                message, receive = self._held[name].popleft()
                receive(message)
        finally:
            self._is_feeding = False

    def is_stuck(self) -> bool:
        """Whether all slots have been busy for so long that others should have what waits here."""
        if not self._returns_are_free or len(worker_state.reserved_requests) < self._slots:
            self._full_since = None
            return False
        if self._full_since is None:
            self._full_since = time.monotonic()
        return time.monotonic() - self._full_since > STUCK_SECONDS

    def give_back(self) -> None:
        """Return what is held."""
        for held in self._held.values():
            while held:
                return_message(held.popleft()[0])

    def _find_queue(self, message: Any) -> str:
        name = find_queue(message.delivery_info, self._held)
        return name if name is not None else next(iter(self._held))


def return_message(message: Any) -> None:
    """`basic.nack` with requeue: RabbitMQ 4.3 counts `basic.reject` as a failed delivery, and not this."""
    message.channel.send_method(BASIC_NACK, "Lbb", (message.delivery_tag, False, True))


def _read_version(consumer: Any) -> tuple[int, ...]:
    properties = getattr(consumer.connection.default_channel.connection, "server_properties", None) or {}
    text = str(properties.get("version", "0"))
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
