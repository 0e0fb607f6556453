"""Celery's own features work as with the stock backend, for plain Celery programs next to the HTTP API."""

import datetime
import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
from celery import Signature, chain, chord, group
from celery.events.state import State
from kombu import Connection
from tests.integration.worker.harness import Bench
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.waiting import eventually_sync

SECONDS = 30


@pytest.fixture(scope="module", params=["rabbitmq", "valkey"])
def busy(
    request: pytest.FixtureRequest, rabbitmq43: RabbitMQ, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A queue with one prefork worker that sends task events, on either broker."""
    broker = rabbitmq43 if request.param == "rabbitmq" else valkey
    made = Bench(broker, valkey, tmp_path_factory.mktemp(request.param))
    try:
        made.start_worker("prefork", 2)
        made.app.control.enable_events()
        yield made
    finally:
        made.close()


def call(bench: Bench, name: str, *args: object, **kwargs: object) -> Signature:
    """A signature of a task that this program does not know."""
    return bench.app.signature(f"everything.{name}", args, kwargs)


def test_chain_group_and_chord(busy: Bench) -> None:
    assert chain(call(busy, "add", 1, 2), call(busy, "add", 10)).apply_async().get(timeout=SECONDS) == 13
    assert group(call(busy, "add", n, n) for n in range(5)).apply_async().get(timeout=SECONDS) == [0, 2, 4, 6, 8]
    header = [call(busy, "add", n, 1) for n in range(10)]
    assert chord(header, call(busy, "total")).apply_async().get(timeout=SECONDS) == 55
    nested = chain(group(call(busy, "add", 1, 1), call(busy, "add", 2, 2)), call(busy, "total"), call(busy, "add", 1))
    assert nested.apply_async().get(timeout=SECONDS) == 7


def test_a_failing_chord_part_fails_its_body(busy: Bench) -> None:
    result = chord([call(busy, "add", 1, 1), call(busy, "fail", "part")], call(busy, "total")).apply_async()
    with pytest.raises(Exception, match="part"):
        result.get(timeout=SECONDS)


def test_a_failing_chain_marks_what_follows(busy: Bench) -> None:
    result = chain(call(busy, "fail", "first"), call(busy, "add", 1)).apply_async()
    with pytest.raises(ValueError, match="first"):
        result.get(timeout=SECONDS)
    assert busy.events(result.id) == [], "a task that was never sent has no record"


def test_link_and_link_error(busy: Bench) -> None:
    linked, failing = uuid4().hex, uuid4().hex
    call(busy, "add", 1, 2).apply_async(link=call(busy, "note", linked))
    call(busy, "fail").apply_async(task_id=failing, link_error=call(busy, "on_error"))
    assert eventually_sync(lambda: busy.trace(linked), SECONDS) == ["noted"]
    assert eventually_sync(lambda: busy.trace(failing), SECONDS) == ["errback"]


def test_the_last_attempt_of_a_chain_head_decides(busy: Bench) -> None:
    """A platform retry keeps error callbacks and the chain open."""
    task_id = uuid4().hex
    signature = call(busy, "fail").set(link_error=call(busy, "on_error"), task_id=task_id)
    signature.apply_async(headers={"taskfleet-attempt": 1, "taskfleet-max-attempts": 2})
    busy.until(task_id, "retrying")
    assert busy.trace(task_id) == []
    signature.apply_async(headers={"taskfleet-attempt": 2, "taskfleet-max-attempts": 2})
    busy.final(task_id)
    assert eventually_sync(lambda: busy.trace(task_id), SECONDS) == ["errback"]


def test_countdowns_do_not_hold_a_slot(busy: Bench) -> None:
    """Six retries wait at once in a worker with two slots, and other tasks run meanwhile."""
    waiting = [busy.send("retry_in", uuid4().hex, 3) for _ in range(6)]
    for task_id in waiting:
        busy.until(task_id, "retrying")
    began = datetime.datetime.now()
    assert busy.final(busy.send("add", 1, 1))["result"] == 2
    assert datetime.datetime.now() - began < datetime.timedelta(seconds=2.5)
    for task_id in waiting:
        assert busy.final(task_id)["retries"] == 1


def test_a_short_countdown_is_no_error(busy: Bench) -> None:
    assert busy.final(busy.send("retry_in", uuid4().hex, 0.2, 2))["result"] == 3


def test_rate_limits_hold(busy: Bench) -> None:
    ids = [busy.send("limited") for _ in range(15)]
    for task_id in ids:
        busy.final(task_id)
    ends = sorted(busy.live(task_id)["at"] for task_id in ids)
    assert ends[-1] - ends[0] > 0.5


def test_inspect_answers(busy: Bench) -> None:
    (name,) = busy.app.control.inspect(timeout=3).ping() or {}
    assert "everything.add" in (busy.app.control.inspect([name], timeout=3).registered() or {})[name]
    assert (busy.app.control.inspect([name], timeout=3).active_queues() or {})[name][0]["name"] == busy.queue


def test_flower_sees_tasks_through_events(busy: Bench) -> None:
    state, ready = State(), threading.Event()
    with Connection(busy.broker.url) as connection:
        receiver = busy.app.events.Receiver(connection, handlers={"*": state.event})
        receiver.on_consume_ready = lambda *_, **__: ready.set()
        listener = threading.Thread(target=receiver.capture, kwargs={"wakeup": False}, daemon=True)
        listener.start()
        try:
            assert ready.wait(SECONDS)
            # Answered: a task that is faster than the command would send no events.
            assert busy.app.control.broadcast("enable_events", reply=True, timeout=SECONDS, limit=1)
            task_id = busy.send("add", 1, 1)
            assert eventually_sync(lambda: getattr(state.tasks.get(task_id), "state", "") == "SUCCESS", SECONDS)
        finally:
            receiver.should_stop = True
            listener.join(SECONDS)


def test_tasks_may_send_to_queues_nobody_declared(busy: Bench) -> None:
    other = f"other-{uuid4().hex[:6]}"
    busy.final(busy.send("send_other", other))
    bench = Bench.__new__(Bench)
    bench.__dict__.update(busy.__dict__, queue=other)
    assert eventually_sync(lambda: bench.depth() == 1, SECONDS)


def test_everything_is_acknowledged(busy: Bench) -> None:
    eventually_sync(busy.is_drained, 30)
