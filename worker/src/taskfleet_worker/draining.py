"""Whether the worker takes new tasks: fenced by the operator, or on its way out after SIGTERM.

A drain keeps the event loop, heartbeats and acknowledgements running until nothing is in hand. Celery's own warm
shutdown goes on consuming, and its soft shutdown stops heartbeats and acknowledgements.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from billiard import pool as billiard_pool
from celery import signals
from celery.concurrency import prefork
from celery.platforms import EX_OK
from celery.worker import state as worker_state

from .loopcalls import LoopCalls
from .reporting import reporter
from .serving import BASIC_NACK, Gate

__all__ = ["Drain", "let_pool_leave_promptly"]

logger = logging.getLogger("taskfleet.worker")

EX_TEMPFAIL = 75
CLOSE_SECONDS = 3.0
WATCHDOG_SECONDS = 2.0


class Drain:
    """State and steps of fencing and leaving; methods run in the event loop unless they say otherwise."""

    def __init__(
        self,
        worker: Any,
        loop: LoopCalls,
        grace_seconds: float,
        note_returned: Callable[[list[str]], None] = lambda ids: None,
    ) -> None:
        self.loop = loop
        self._note_returned = note_returned
        self._worker = worker
        self._grace_seconds = grace_seconds
        self._asked_at: float | None = None
        self._fenced = False
        self.gate: Gate | None = None
        self._consumes = True
        self._is_full = False
        self._idle_turns = 0
        self._leaving = threading.Lock()

    @property
    def is_asked(self) -> bool:
        """Whether the worker is on its way out."""
        return self._asked_at is not None

    @property
    def is_consuming(self) -> bool:
        """Whether the worker takes new tasks. One that shall stop does so until its loop has cancelled the consumer."""
        return self._consumes or (self._is_full and not self._fenced and not self.is_asked)

    def ask(self, *_: Any) -> None:
        """Signal handler: start leaving. The loop does all of it."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self.loop.call(self.turn)

    def ask_or_force(self, *_: Any) -> None:
        """Signal handler of Ctrl-C: leave; a second one falls to Celery's cold shutdown."""
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGQUIT) or signal.SIG_DFL)
        self.ask()

    def set_fenced(self, fenced: bool) -> bool:
        """From the heartbeat's thread: take no new tasks, or take them again. Whether that is news."""
        is_news = fenced != self._fenced
        if is_news:
            self._fenced = fenced
            self.loop.call(self.turn)
        return is_news

    def turn(self) -> None:
        """One look at what is wanted, each time the loop turns."""
        consumer = getattr(self._worker, "consumer", None)
        if consumer is None or consumer.task_consumer is None:
            return
        self._is_full = self._feed()
        if self.is_asked or self._fenced or self._is_full:
            if self._consumes:
                self._stop_consuming(consumer)
            if self.gate is not None:
                self.gate.give_back()
        elif not self._consumes:
            self._consumes = True
            consumer.task_consumer.consume()
            logger.debug("taking tasks again")
        if self.is_asked:
            self._leave_when_idle()

    def _feed(self) -> bool:
        """Start what has a slot; whether all slots have been busy for so long that nothing should wait here."""
        if self.gate is None:
            return False
        self.gate.is_open = not self.is_asked and not self._fenced
        self.gate.feed()
        return self.gate.is_stuck()

    def prepare(self, consumer: Any) -> None:
        """A connection was made, perhaps again: consume only if that is still wanted."""
        self._consumes = True
        if self.is_asked or self._fenced:
            consumer.task_consumer.consume = _do_nothing
            self._consumes = False

    def _stop_consuming(self, consumer: Any) -> None:
        consumer.task_consumer.cancel()
        self._consumes = False
        if self.is_asked:
            logger.info("leaving: no new tasks, finishing %d", len(worker_state.active_requests))
            signals.worker_shutting_down.send(sender=self._worker.hostname, sig="SIGTERM", how="Warm", exitcode=EX_OK)
        elif self._fenced:
            logger.info("fenced: no new tasks")

    def _leave_when_idle(self) -> None:
        busy = worker_state.reserved_requests or worker_state.active_requests or not reporter.is_idle
        # One more turn after the last task: its acknowledgement is written by the loop.
        self._idle_turns = 0 if busy else self._idle_turns + 1
        if self._idle_turns >= 2:
            worker_state.should_stop = EX_OK
        elif self._idle_turns:
            self.loop.call(self.turn)
        elif self._is_over():
            self.hand_back()

    def _is_over(self, margin_seconds: float = 0.0) -> bool:
        return self._asked_at is not None and time.monotonic() - self._asked_at > self._grace_seconds + margin_seconds

    def check_grace(self) -> None:
        """From the heartbeat's thread: a loop that is stuck in a task (solo pool) cannot end itself."""
        if self._is_over(WATCHDOG_SECONDS):
            self.hand_back()

    def hand_back(self) -> None:
        """The grace period is over: end the processes and let the broker have its messages back, once."""
        if not self._leaving.acquire(blocking=False):
            return
        ids = [request.id for request in list(worker_state.reserved_requests)]
        logger.warning("grace period over: handing back %d tasks: %s", len(ids), ", ".join(ids))
        _kill_processes(self._worker.pool)
        closing = threading.Thread(target=self._give_back, args=(ids,), daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        logging.shutdown()
        os._exit(EX_TEMPFAIL)

    def _give_back(self, ids: list[str]) -> None:
        """Return the messages so that it does not count against the tasks, then close: what could not be returned by
        name the broker takes back with the connection."""
        with contextlib.suppress(Exception):
            self._note_returned(ids)
        consumer = self._worker.consumer
        with contextlib.suppress(Exception):
            if self._consumes:  # a loop that is stuck has not cancelled: it would be given the same messages again
                consumer.task_consumer.cancel()
            _return_all(consumer.task_consumer.channel)
        with contextlib.suppress(Exception):
            # On a Redis broker closing the channel puts the messages back, at the head of the queue.
            consumer.connection.close()


def _return_all(channel: Any) -> None:
    """`basic.nack` of everything unacknowledged. RabbitMQ 4.3 counts no failed delivery for it, as it does for a
    closed connection and for `basic.reject`; older versions count each of them. Redis channels have no such method.
    """
    if hasattr(channel, "send_method"):
        channel.send_method(BASIC_NACK, "Lbb", (0, True, True))  # all tags, multiple, requeue


def _kill_processes(pool: Any) -> None:
    for process in list(getattr(getattr(pool, "_pool", None), "_pool", None) or ()):
        with contextlib.suppress(OSError, AttributeError, TypeError):
            os.kill(process.pid, signal.SIGKILL)


def let_pool_leave_promptly() -> None:
    """Spare a pod the seconds that Celery and billiard sleep while they stop a pool."""
    _let_children_leave_promptly()
    _let_parent_leave_promptly()


def _let_parent_leave_promptly() -> None:
    """While it stops a pool, Celery 5.7 fires timers from a thread that sleeps half a second between two looks at
    whether it is still wanted. A drained worker has no task that could need them, so its pool is stopped without."""
    find_loop = getattr(prefork, "get_event_loop", None)
    if find_loop is None or hasattr(find_loop, "taskfleet"):
        return

    def find_loop_unless_drained() -> Any:
        return None if worker_state.should_stop is not None and not worker_state.reserved_requests else find_loop()

    find_loop_unless_drained.taskfleet = True  # type: ignore[attr-defined]
    prefork.get_event_loop = find_loop_unless_drained


def _let_children_leave_promptly() -> None:
    """Have prefork children leave once they have said so: billiard lets each sleep for another second, and with it the
    pod that they are in. What they wrote into the pipe stays there to be read."""
    leave = billiard_pool.Worker._do_exit
    if hasattr(leave, "taskfleet"):
        return

    def leave_promptly(self: Any, pid: int, exitcode: int | None, exc: BaseException | None = None) -> None:
        say = self.outq.put

        def say_and_leave(message: Any) -> None:
            say(message)
            os._exit(message[1][1])

        self.outq.put = say_and_leave  # all that is said from here on is the last word
        leave(self, pid, exitcode, exc)

    leave_promptly.taskfleet = True  # type: ignore[attr-defined]
    billiard_pool.Worker._do_exit = leave_promptly


def _do_nothing(*_: Any, **__: Any) -> None:
    """In place of `consume` while no new tasks are wanted."""
