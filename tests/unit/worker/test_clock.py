"""A stepped clock moves what waits for a moment, and nothing else."""

import time
import types

import pytest
from kombu.asynchronous.timer import Timer

from taskfleet_worker.clock import StepWatch


class Clocks:
    """A wall clock that can be stepped beside one that cannot."""

    def __init__(self):
        self.step = 0.0

    def wall(self):
        return time.monotonic() + 1_000_000.0 + self.step


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture
def watch(clocks):
    return StepWatch(clocks.wall, time.monotonic)


def wait_for_moment(timer, seconds):
    """An entry as Celery makes it for a message with an `eta`."""
    request = types.SimpleNamespace(eta="2026-11-22T12:00:00Z", _eta_timer_entry=None, began=[])
    entry = timer.call_at(time.monotonic() + seconds, request.began.append, (request,), priority=6)
    request._eta_timer_entry = entry
    return request


def fire_due(timer):
    """Run what is due, as the event loop does."""
    for _, entry in timer:
        if entry is None:
            return
        timer.apply_entry(entry)


def test_a_task_that_was_read_with_a_clock_an_hour_back_begins_when_it_is_set_right(clocks, watch):
    timer, interval_runs = Timer(), []
    waiting = wait_for_moment(timer, 3600.0)  # due a moment ago, by the right clock
    timer.call_at(time.monotonic() + 3600.0, interval_runs.append, (1,))
    watch.look(timer)
    fire_due(timer)
    assert not waiting.began

    clocks.step += 3601.0
    watch.look(timer)
    fire_due(timer)
    assert waiting.began == [waiting]
    assert not interval_runs


def test_a_step_back_lets_them_wait_longer_and_a_revoke_still_finds_them(clocks, watch):
    timer = Timer()
    waiting = wait_for_moment(timer, -1.0)
    clocks.step -= 3600.0
    watch.look(timer)
    fire_due(timer)
    assert not waiting.began
    waiting._eta_timer_entry.cancel()
    clocks.step += 3600.0
    watch.look(timer)
    fire_due(timer)
    assert not waiting.began


def test_slewing_moves_nothing(clocks, watch):
    timer = Timer()
    waiting = wait_for_moment(timer, 60.0)
    for _ in range(100):
        clocks.step += 1.0
        watch.look(timer)
    fire_due(timer)
    assert not waiting.began
