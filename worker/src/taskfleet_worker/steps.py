"""Celery boot steps that start and stop the worker's own parts."""

from __future__ import annotations

import signal
import threading
from typing import Any, ClassVar

from celery import bootsteps

from . import reporting
from .catalog import build_catalog
from .clock import StepWatch
from .connecting import install_reconnecting
from .control import Control
from .draining import Drain
from .failures import install_failure_hooks
from .forks import let_forks_end
from .heartbeat import Heartbeat, note_returned
from .limits import leave_out_late_soft_limits
from .loopcalls import LoopCalls
from .request import hooks
from .serving import Gate
from .settings import WorkerSettings

__all__ = ["ConsumerStep", "Parts", "WorkerStep", "build_steps"]

TICK_SECONDS = 0.1


class Parts:
    """What both steps share."""

    def __init__(self, settings: WorkerSettings, gate: Gate | None) -> None:
        self.settings = settings
        self.gate = gate
        self.loop = LoopCalls()
        self.drain: Drain | None = None
        self.tick: Any = None


class WorkerStep(bootsteps.StartStopStep):
    """Heartbeat, control channel and signals; started once, after the pool."""

    requires: ClassVar[set[str]] = {"celery.worker.components:Pool"}
    parts: Parts

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._heartbeat: Heartbeat | None = None
        self._control: Control | None = None

    def start(self, worker: Any) -> None:
        parts, settings = self.parts, self.parts.settings
        parts.drain = Drain(worker, parts.loop, settings.grace_seconds, lambda ids: note_returned(settings, ids))
        parts.drain.gate = parts.gate
        if not type(worker.pool).__module__.endswith("solo"):
            # Solo runs tasks in the loop itself: there, waiting for the store is the only way to hold a message.
            reporting.set_event_loop()
            reporting.reporter.call_in_loop = parts.loop.call
        if type(worker.pool).__module__.endswith("thread"):
            hooks.wake_loop = parts.loop.wake
        leave_out_late_soft_limits(worker.pool)
        self._control = Control(settings, worker, parts.loop)
        hooks.is_cancelled = self._control.is_cancelled
        self._heartbeat = Heartbeat(settings, worker, parts.drain, build_catalog(worker.app.tasks))
        self._control.start()
        self._heartbeat.start()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, parts.drain.ask)
            signal.signal(signal.SIGINT, parts.drain.ask_or_force)
            let_forks_end(parts.drain.ask)

    def stop(self, worker: Any) -> None:
        for part in (self._control, self._heartbeat):
            if part is not None:
                part.stop()

    terminate = stop


class ConsumerStep(bootsteps.StartStopStep):
    """Ties the parts to the event loop; started again after each reconnect."""

    requires: ClassVar[set[str]] = {"celery.worker.consumer.tasks:Tasks"}
    parts: Parts

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._consumer = consumer
        self._step_watch = StepWatch()
        install_reconnecting(consumer)

    def start(self, consumer: Any) -> None:
        parts = self.parts
        assert parts.drain is not None
        parts.drain.prepare(consumer)
        install_failure_hooks(consumer, parts.settings)
        if parts.gate is not None:
            parts.gate.install(consumer)
            feed = parts.gate.feed
            # Without a hub (gevent) tasks end in the loop's own thread, which turns too seldom to wait for it.
            hooks.on_settled = feed if consumer.hub is None else lambda: parts.loop.call(feed)
        if consumer.hub is None:
            _turn_before(consumer, self._turn)

    def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
        """Celery calls this each time its hub starts anew."""
        parts = self.parts
        parts.loop.register(hub)
        if parts.tick is not None:
            parts.tick.cancel()
        parts.tick = hub.timer.call_repeatedly(TICK_SECONDS, self._turn)

    def _turn(self) -> None:
        self._step_watch.look(self._consumer.timer)
        self.parts.loop.run()
        if self.parts.drain is not None:
            self.parts.drain.turn()


def _turn_before(consumer: Any, turn: Any) -> None:
    """Without a hub (gevent) the loop calls `perform_pending_operations` once per turn, at least every 2 s."""
    perform = type(consumer).perform_pending_operations

    def perform_pending_operations() -> None:
        turn()
        perform(consumer)

    consumer.perform_pending_operations = perform_pending_operations


def build_steps(settings: WorkerSettings, gate: Gate | None) -> tuple[type, type]:
    """Step classes bound to one worker's settings: Celery makes the instances."""
    parts = Parts(settings, gate)
    return (
        type("TaskfleetWorker", (WorkerStep,), {"parts": parts, "name": "taskfleet.worker"}),
        type("TaskfleetConsumer", (ConsumerStep,), {"parts": parts, "name": "taskfleet.consumer"}),
    )
