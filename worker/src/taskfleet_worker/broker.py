"""Queues and broker options of a worker.

The worker never declares its own queue: operator, API or local mode did. Messages to queues go through the default
exchange, declared here as `topic` so that Celery's native delayed delivery takes over retries with a countdown on
RabbitMQ (it refuses direct exchanges, and a delayed message would otherwise sit in the prefetch window).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from kombu import Exchange, Queue, binding
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from . import _wire
from .events import DELAY_LEVELS
from .routing import DefaultRoute, address_queues_by_name, extend_routes
from .serving import WeightedCycle
from .settings import WorkerSettings

__all__ = ["build_queue", "build_transport_options", "is_redis", "patch_delayed_delivery", "use_queue"]

logger = logging.getLogger("taskfleet.worker")

DELIVERY_EXCHANGE = "celery_delayed_delivery"
FIRST_DELAY_EXCHANGE = f"celery_delayed_{DELAY_LEVELS - 1}"
DELAY_MARKER = "taskfleet_delayed_declared"
VISIBILITY_MARGIN_SECONDS = 300
QUORUM = {"x-queue-type": "quorum"}
CAN_DELAY = "delays"  # a value of ENV_CONFINED


def is_redis(broker_url: str) -> bool:
    """Whether the broker is Redis/Valkey rather than RabbitMQ."""
    return broker_url.split("://", 1)[0] in {"redis", "rediss", "valkey", "valkeys", "sentinel"}


def build_delay_key(queue: str) -> str:
    """The key that binds a queue to the end of the delayed-delivery exchanges.

    One `*` for each of the 28 digits of a delay. Celery itself binds `#.<queue>`, which also takes the messages of
    every queue whose name ends in `.<queue>`.
    """
    return "*." * DELAY_LEVELS + queue


def build_queue(name: str, *, redis: bool, declares: bool, confined: str | None = None) -> Queue:
    """A queue on the default exchange, or, with a broker user of the queue's own, on the exchange that leads to it."""
    if confined:
        exchange = Exchange(_wire.send_exchange(name), type="fanout", no_declare=True)
        return Queue(name, exchange=exchange, routing_key=name, queue_arguments=dict(QUORUM), no_declare=True)
    if redis:
        return Queue(name, exchange=Exchange("", type="direct"), routing_key=name, no_declare=not declares)
    return Queue(
        name,
        exchange=Exchange("", type="topic"),
        routing_key=name,
        queue_arguments=dict(QUORUM),
        bindings=[binding(Exchange(DELIVERY_EXCHANGE, type="topic"), routing_key=build_delay_key(name))],
        no_declare=not declares,
    )


def build_transport_options(settings: WorkerSettings, *, redis: bool) -> dict[str, Any]:
    """Options forced on the broker connection."""
    if not redis:
        # What a task sends (retries, chains, links) must be in the queue before its own message is acknowledged.
        return {"confirm_publish": True}
    queue = settings.queue
    several = {"queue_order_strategy": f"{WeightedCycle.__module__}:{WeightedCycle.__name__}"}
    return {
        **(several if len(settings.queues) > 1 else {}),
        "visibility_timeout": int(settings.longest_task_seconds) + VISIBILITY_MARGIN_SECONDS,
        "unacked_key": _wire.UNACKED_KEY_PREFIX + queue,
        "unacked_index_key": _wire.UNACKED_INDEX_KEY_PREFIX + queue,
        "unacked_mutex_key": f"taskfleet:unacked-mutex:{queue}",
    }


def use_queue(app: Any, settings: WorkerSettings, *, redis: bool) -> None:
    """Make the worker's first queue the default one, unless the app's own is served; queues that it does not know are
    declared as Taskfleet declares."""
    confined = settings.confined
    mine = [build_queue(name, redis=redis, declares=False, confined=confined) for name in settings.queues]
    _keep_default(app, settings, redis=redis)
    others = [queue for queue in app.conf.task_queues or () if _is_routed(queue, settings.queues)]
    app.conf.update(
        task_queues=[*mine, *others],
        task_default_queue=settings.queue,
        task_default_exchange=_wire.send_exchange(settings.queue) if confined else "",
        task_default_exchange_type="fanout" if confined else "direct" if redis else "topic",
        task_default_routing_key=settings.queue,
        task_create_missing_queues=True,
    )
    app.amqp.flush_routes()
    for name in ("queues", "default_exchange", "router", "send_task_message"):
        app.amqp.__dict__.pop(name, None)
    queues = app.amqp.queues
    queues.new_missing = lambda name: build_queue(name, redis=redis, declares=True, confined=confined)
    address_queues_by_name(app.amqp.router, settings.queues)


def _keep_default(app: Any, settings: WorkerSettings, *, redis: bool) -> None:
    """Let tasks without a route go to the app's own default queue where somebody serves that."""
    wanted, own = app.conf.task_default_queue, settings.queue
    is_served_here = wanted in settings.queues
    # A broker user of the queue's own may send to others only where the TaskQueue says so, which nobody told us.
    if not wanted or wanted == own or (settings.confined and not is_served_here):
        return

    def ask(*words: Any) -> Any:
        return app.backend.store.command(*words)  # each thread has a backend of its own

    queue = build_queue(wanted, redis=redis, declares=False, confined=settings.confined)
    route = DefaultRoute(own, queue, None if is_served_here else ask)
    app.conf.task_routes = extend_routes(app.conf.task_routes, route)


def _is_routed(queue: Any, own: Sequence[str]) -> bool:
    """Whether a queue of the app's configuration needs its own exchange; plain ones are found by name."""
    exchange = getattr(queue, "exchange", None)
    return (
        isinstance(queue, Queue)
        and queue.name not in own
        and exchange is not None
        and exchange.name not in ("", queue.name)
        and exchange.type != "direct"
    )


def patch_delayed_delivery(confined: str | None = None) -> None:
    """Replace functions of Celery's delayed delivery (RabbitMQ): declaring, the binding of queues, the routing key."""
    import celery.app.base as base
    import celery.worker.consumer.delayed_delivery as delayed

    # A user of the queue's own may neither declare nor bind, and sends to another exchange: the operator made all.
    delayed.bind_queue_to_native_delayed_delivery_exchange = _do_nothing if confined else _bind_queue
    delayed.declare_native_delayed_delivery_exchanges_and_queues = _do_nothing if confined else _declare_once
    if confined == CAN_DELAY:
        base.Exchange = _open_delay_exchange
    elif confined:
        # Celery then sends it to the queue at once, and the worker that takes it waits.
        base.detect_quorum_queues = lambda app, driver_type: (False, "")
    calculate = getattr(base, "calculate_routing_key", None)
    if calculate is not None and not hasattr(calculate, "taskfleet"):

        def calculate_routing_key(countdown: int, routing_key: str) -> str:
            # Celery cuts 0.5 s to 0 and then refuses 0.
            return str(calculate(max(1, countdown), routing_key))

        calculate_routing_key.taskfleet = True  # type: ignore[attr-defined]
        base.calculate_routing_key = calculate_routing_key


def _do_nothing(*args: Any, **options: Any) -> None:
    """In place of what is not for this worker to do."""


def _open_delay_exchange(name: str, **options: Any) -> Exchange:
    """Where Celery sends what shall wait, by the one way into the delays that a confined user has."""
    return Exchange(_wire.DELAY_EXCHANGE if name == FIRST_DELAY_EXCHANGE else name, **options)


def _declare_once(connection: Any, queue_type: str, prefix: str | None = None) -> None:
    """Declare the 28 levels unless a worker before this one did: some 110 round trips at each start otherwise."""
    marker = Exchange(DELAY_MARKER, type="topic")
    try:
        marker.bind(connection.channel()).declare(passive=True)
    except connection.channel_errors:
        declare_native_delayed_delivery_exchanges_and_queues(connection, queue_type)
        marker.bind(connection.channel()).declare()


def _bind_queue(connection: Any, queue: Queue, prefix: str | None = None) -> None:
    if queue.exchange is not None and queue.exchange.name:
        bind_queue_to_native_delayed_delivery_exchange(connection, queue)
        return
    bound = queue.bind(connection.default_channel)
    bound.bind_to(DELIVERY_EXCHANGE, routing_key=build_delay_key(queue.name))
