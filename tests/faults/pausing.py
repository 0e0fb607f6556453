"""Strikes at processes that stand still without being dead, and at one of two API replicas with reports in its hand."""

import signal
import time

import redis
from tests.faults.killing import find_busy, slow_down
from tests.faults.striking import Field
from tests.support.processes import ManagedProcess
from tests.support.waiting import eventually_sync

from taskfleet_core import wire

__all__ = ["kill_api_with_reports", "pause_api", "pause_worker"]

PAUSE_SECONDS = 20.0
CATCH_SECONDS = 60.0
READ_SECONDS = 1.2  # a recorder that waits for reports gets the next ones within a second


def _count_held(stack_url: str, pid: int) -> int:
    """Reports that the recorders of this API process have read and not recorded."""
    with redis.Redis.from_url(stack_url, decode_responses=True, socket_timeout=5) as store:
        consumers = store.xinfo_consumers(wire.EVENTS_STREAM, wire.RECORDER_GROUP)
    return sum(each["pending"] for each in consumers if f"-{pid}-" in each["name"])


def _catch(field: Field) -> ManagedProcess:
    """Stop the first API replica at a moment when it holds reports."""
    process, url = field.stack.api_process(0), field.stack.valkey.url
    deadline = time.monotonic() + CATCH_SECONDS
    while time.monotonic() < deadline:
        process.signal(signal.SIGSTOP)
        try:
            eventually_sync(lambda: _count_held(url, process.pid), READ_SECONDS)
        except AssertionError:
            process.signal(signal.SIGCONT)
            field.load.wait_accepted(5)
        else:
            return process
    raise AssertionError("the replica was never met with reports in its hand")


def _await_handover(field: Field, pid: int) -> None:
    """Return once another replica has taken over what this one held; notes how long that took."""
    url, begun = field.stack.valkey.url, time.monotonic()
    eventually_sync(lambda: _count_held(url, pid) == 0, 60, 0.05)
    field.facts["handover"] = (
        f"What it had read and not recorded was taken over by the other replica after {time.monotonic() - begun:.1f} s."
    )


def kill_api_with_reports(field: Field) -> None:
    """kill -9 of one of two replicas, in the middle of a batch of reports."""
    process = _catch(field)
    field.stack.kill_api(0)
    field.lift()
    _await_handover(field, process.pid)
    field.stack.start_api(0)


def pause_api(field: Field) -> None:
    """One of two replicas stands still with a batch of reports, which the other takes over, and goes on."""
    process = _catch(field)
    begun = time.monotonic()
    try:
        _await_handover(field, process.pid)
        field.last(max(0.0, PAUSE_SECONDS - (time.monotonic() - begun)))
    finally:
        process.signal(signal.SIGCONT)
    field.lift()


def pause_worker(field: Field) -> None:
    """A worker and its children stand still in the middle of tasks: a pause is not a death."""
    slow_down(field)
    worker = find_busy(field)
    worker.process.signal(signal.SIGSTOP)
    try:
        field.last(min(PAUSE_SECONDS, field.pace.network_seconds))
    finally:
        worker.process.signal(signal.SIGCONT)
    field.lift()
