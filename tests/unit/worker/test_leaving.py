"""How a worker that shall leave loses no time: the pool's children, and the echo of a fence."""

import signal
import types

import pytest
from billiard import pool as billiard_pool

from taskfleet_worker import _wire, draining, heartbeat


class Left(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def prompt(monkeypatch):
    """The patched pool, taken back afterwards; sleeping is an error and the end of the process an exception."""
    monkeypatch.setattr(billiard_pool.Worker, "_do_exit", billiard_pool.Worker._do_exit)
    draining.let_pool_leave_promptly()
    draining.let_pool_leave_promptly()  # a second time changes nothing

    def leave(code):
        raise Left(code)

    monkeypatch.setattr(billiard_pool.os, "_exit", leave)
    monkeypatch.setattr(billiard_pool.time, "sleep", lambda _: pytest.fail("a leaving child slept"))
    yield
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def test_a_child_says_that_it_leaves_and_does_not_sleep(prompt):
    """The shutdown callback runs, the parent is told, and then it is over."""
    said, left = [], []
    child = types.SimpleNamespace(on_exit=lambda *told: left.append(told), outq=types.SimpleNamespace(put=said.append))
    with pytest.raises(Left) as ended:
        billiard_pool.Worker._do_exit(child, 42, 0)
    assert ended.value.args == (0,)
    assert left == [(42, 0)]
    assert said == [(billiard_pool.DEATH, (42, 0))]


@pytest.fixture
def beating(monkeypatch):
    """A heartbeat without a server; `fenced` is what the server says."""
    beat = object.__new__(heartbeat.Heartbeat)
    server = types.SimpleNamespace(fenced=0)
    pipeline = types.SimpleNamespace(
        set=lambda *_, **__: None,
        zadd=lambda *_: None,
        exists=lambda *_: None,
        execute=lambda: [True, 1, server.fenced],
    )
    beat._client = types.SimpleNamespace(pipeline=lambda **_: pipeline)
    beat._settings = types.SimpleNamespace(pod_uid="pod")
    beat._key = _wire.worker_key("queue", "host")
    beat._catalog = {}
    turns = []
    loop = types.SimpleNamespace(call=turns.append)
    consumer = types.SimpleNamespace(cancel=lambda: None, consume=lambda: None)
    worker = types.SimpleNamespace(consumer=types.SimpleNamespace(task_consumer=consumer))
    beat._drain = draining.Drain(worker, loop, 30.0)
    server.turn = lambda: turns.pop()()  # the event loop comes to it
    monkeypatch.setattr(beat, "build", dict, raising=False)
    return beat, server


def test_a_fence_is_echoed_before_the_next_second(beating):
    """News are told again at once; what is known already waits for its turn."""
    beat, server = beating
    assert beat._beat() is False
    server.fenced = 1
    assert beat._beat() is True
    assert beat._drain.is_consuming is True, "until the loop has cancelled the consumer"
    server.turn()
    assert beat._drain.is_consuming is False
    assert beat._beat() is False
    server.fenced = 0
    assert beat._beat() is True
    server.turn()
    assert beat._drain.is_consuming is True
    assert heartbeat.ECHO_SECONDS < _wire.HEARTBEAT_SECONDS
