"""Where a task goes that a running task sends without naming a queue.

For Celery that is the app's `task_default_queue`, whichever worker sends it. So it is here as long as a TaskQueue of
the same namespace serves that queue; otherwise nobody would run the task, and it goes to the sending worker's queue.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection
from typing import Any

from kombu import Queue

from . import _wire
from .store import RETRYABLE

__all__ = ["DefaultRoute", "address_queues_by_name", "are_neighbours", "extend_routes"]

logger = logging.getLogger("taskfleet.worker")

LOOK_AGAIN_SECONDS = 30.0  # as often as the list of queues is renewed
DESTINATIONS = ("queue", "exchange", "routing_key")

Ask = Callable[..., Any]  # words of a command -> the store's answer


def are_neighbours(own: bytes | None, other: bytes | None) -> bool:
    """Whether two entries of the list of queues are of one namespace and broker. Pure."""
    if own is None or other is None:
        return False
    mine, theirs = json.loads(own), json.loads(other)
    return all(mine.get(part) == theirs.get(part) for part in ("namespace", "broker"))


def extend_routes(routes: Any, last: Any) -> list[Any]:
    """The app's `task_routes`, in whichever form, and one more router that is asked when none of them answers. Pure."""
    if not routes:
        return [last]
    return [*routes, last] if isinstance(routes, (list, tuple)) else [routes, last]


def address_queues_by_name(router: Any, own: Collection[str]) -> None:
    """Let a task that is sent to a queue reach it whatever exchange and routing key the app had bound it to.

    Queues are Taskfleet's, and their names lead to them: a message to an app's own `media` exchange with the key
    `media.video` would reach no queue, and be lost without a word.
    """
    find = router.route

    def route(options: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        key, exchange = options.get("routing_key"), options.get("exchange")
        if not options.get("queue") and not exchange and key in own:
            options = {**options, "queue": key}  # a retry, which names where its message came from
        names_queue = bool(options.get("queue")) or not (exchange or key)
        routed: dict[str, Any] = find(options, *args, **kwargs)
        queue = routed.get("queue")
        if names_queue and isinstance(queue, Queue) and is_addressed_by_name(queue):
            routed = {**routed, "routing_key": queue.routing_key}
            routed.pop("exchange", None)
        return routed

    router.route = route


def is_addressed_by_name(queue: Queue) -> bool:
    """Whether it is one of Taskfleet's, not one of the app with a topic or fanout exchange. Pure."""
    return queue.exchange is not None and queue.exchange.name in ("", _wire.send_exchange(queue.name))


class DefaultRoute:
    """A Celery router: the app's default queue while it is served, else no answer. One instance in each process."""

    def __init__(self, own: str, wanted: Queue, ask: Ask | None) -> None:
        """`ask` is None where the workers serve the queue themselves."""
        self._own, self._wanted, self._ask = own, wanted, ask
        self._is_served = ask is None
        self._look_again_at = 0.0

    def __call__(self, name: str, args: Any, kwargs: Any, options: dict[str, Any], **_: Any) -> dict[str, Any] | None:
        if any(options.get(part) for part in DESTINATIONS) or not self._find_out():
            return None
        return {"queue": self._wanted}

    def _find_out(self) -> bool:
        ask, now = self._ask, time.monotonic()
        if ask is None or now < self._look_again_at:
            return self._is_served
        self._look_again_at = now + LOOK_AGAIN_SECONDS
        try:
            own, wanted = ask("HMGET", _wire.REGISTRY_KEY, self._own, self._wanted.name)
        except RETRYABLE as error:  # also a store that does not let workers read the list
            logger.warning("who serves queue %s is not known, what was known holds: %s", self._wanted.name, error)
            return self._is_served
        served = are_neighbours(own, wanted)
        if served != self._is_served:
            goal = self._wanted.name if served else self._own
            logger.info("tasks that are sent without a queue go to %s from now on", goal)
        self._is_served = served
        return served
