"""Every way a task can end is one final event, on every pool. One worker per pool serves the whole module."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.integration.worker.harness import Bench
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.waiting import eventually_sync

from taskfleet_worker import _wire

POOLS = ["prefork", "threads", "gevent", "solo"]


@pytest.fixture(scope="module", params=POOLS)
def busy(request: pytest.FixtureRequest, rabbitmq43: RabbitMQ, valkey: Valkey, folder: Path) -> Iterator[Bench]:
    """A queue with one worker of the pool in question."""
    if request.param == "gevent":
        pytest.importorskip("gevent")
    place = folder / request.param
    place.mkdir()
    made = Bench(rabbitmq43, valkey, place)
    try:
        made.start_worker(request.param, 1 if request.param == "solo" else 2)
        yield made
    finally:
        made.close()


def test_success_is_one_event_with_the_result_and_the_key_that_celery_reads(busy: Bench) -> None:
    task_id = busy.send("add", 2, y=40, kwargs={"y": 40})
    event = busy.final(task_id)
    expected = {"schema": 1, "kind": "state", "id": task_id, "queue": busy.queue, "task": "everything.add"}
    assert expected.items() <= event.items()
    assert event["state"] == "succeeded"
    assert event["position"] == _wire.position(1, 0, "succeeded")
    assert event["result"] == 42
    assert event["worker"] == busy.workers[0].host
    assert event["runtime_seconds"] < 5
    assert "origin" not in event
    assert busy.result(task_id).get(timeout=10) == 42
    assert busy.steps(task_id) == ["succeeded"]


def test_failure_carries_type_message_and_traceback(busy: Bench) -> None:
    task_id = busy.send("fail", "broken")
    error = busy.final(task_id)["error"]
    assert (error["type"], error["message"]) == ("ValueError", "broken")
    assert "everything.py" in error["traceback"]
    with pytest.raises(ValueError, match="broken"):
        busy.result(task_id).get(timeout=10)


def test_an_exception_that_cannot_be_pickled_keeps_its_name(busy: Bench) -> None:
    error = busy.final(busy.send("fail_unpicklable"))["error"]
    assert (error["type"], error["message"]) == ("everything.Unpicklable", "Unpicklable('no')")


def test_a_long_task_is_announced_as_running_once(busy: Bench) -> None:
    name = uuid4().hex
    task_id = busy.send("hold", name)
    running = busy.until(task_id, "running")
    begun = (busy.traces / f"{name}.started").stat().st_mtime
    assert running["at"] < begun + 0.04, "the time of the start, not of the announcement 0.05 s later"
    busy.touch(name)
    succeeded = busy.final(task_id)
    assert busy.states(task_id) == ["running", "succeeded"]
    assert succeeded["runtime_seconds"] >= 0.05


def test_short_tasks_are_not_announced_as_running(busy: Bench) -> None:
    ids = [busy.send("noop") for _ in range(20)]
    for task_id in ids:
        busy.final(task_id)
    announced = sum(len(busy.events(task_id)) - 1 for task_id in ids)
    assert announced < 10, "a busy machine may make some of them long"


def test_celerys_started_is_kept_for_apps_that_track_it(busy: Bench) -> None:
    tracked, plain = busy.send("tracked", 1.5), busy.send("sleep", 0.1)
    assert eventually_sync(lambda: busy.result(tracked).state == "STARTED")
    assert busy.final(tracked)["state"] == "succeeded"
    busy.final(plain)


def test_tasks_that_ignore_their_result_still_end_visibly(busy: Bench) -> None:
    name = uuid4().hex
    silent, failure, retry = busy.send("silent"), busy.send("silent_failure"), busy.send("silent_retry", name)
    assert busy.final(silent)["state"] == "succeeded"
    assert "result" not in busy.final(silent)
    assert busy.final(failure)["error"]["message"] == "quiet"
    assert busy.final(retry)["state"] == "succeeded"
    assert busy.steps(retry) == ["retrying", "succeeded"]
    assert busy.result(silent).state == "PENDING"


def test_celerys_own_retry_tells_when_it_runs_again(busy: Bench) -> None:
    task_id = busy.send("retry_in", uuid4().hex, 1.5)
    event = busy.final(task_id)
    assert event["result"] == 2
    retrying, succeeded = (event for event in busy.events(task_id) if event["state"] != "running")
    assert (retrying["state"], retrying["retries"], succeeded["retries"]) == ("retrying", 0, 1)
    assert 1.4 < retrying["retry_at"] - retrying["at"] < 1.6
    assert succeeded["at"] >= retrying["retry_at"] - 0.5
    assert "ends_attempt" not in retrying
    assert retrying["error"]["message"] == "not yet"


def test_autoretry_ends_failed_when_its_retries_are_used_up(busy: Bench) -> None:
    name = uuid4().hex
    task_id = busy.send("autoretry", name)
    assert busy.final(task_id)["state"] == "failed"
    assert busy.steps(task_id) == ["retrying", "retrying", "failed"]
    assert len(busy.trace(name)) == 3


def test_the_platforms_retry_keeps_the_last_word_open(busy: Bench) -> None:
    task_id = busy.send("fail", "flaky", attempt=1, max_attempts=2)
    event = busy.until(task_id, "retrying")
    assert event["ends_attempt"] is True
    assert event["position"] == _wire.position(1, 0, "failed")
    assert busy.result(task_id).state == "RETRY"
    busy.send("fail", "flaky", attempt=2, max_attempts=2, task_id=task_id)
    final = busy.final(task_id)
    assert (final["state"], final["attempt"]) == ("failed", 2)
    assert busy.result(task_id).state == "FAILURE"


def test_progress_is_counted_and_the_last_report_is_kept(busy: Bench) -> None:
    task_id = busy.send("progress", 5)
    event = busy.final(task_id)
    assert (event["progress"], event["progress_count"]) == ({"current": 5, "total": 5}, 5)
    assert busy.events(task_id, "progress")[0]["progress"] == {"current": 1, "total": 5}
    stored = json.loads(busy.redis.hget(_wire.task_key(task_id), _wire.LIVE_PROGRESS))
    assert (stored["progress_count"], stored["kind"]) == (5, "progress")


def test_ignore_and_reject_end_visibly(busy: Bench) -> None:
    ignored, own, rejected, again = (
        busy.send("ignore"),
        busy.send("own_state"),
        busy.send("reject"),
        busy.send("reject_once", uuid4().hex),
    )
    assert busy.final(ignored)["state"] == "succeeded"
    assert busy.final(own)["state"] == "failed"
    assert (busy.final(own)["error"]["type"], busy.final(own)["error"]["message"]) == ("ValueError", "mine")
    assert busy.result(own).state == "FAILURE"
    assert busy.final(rejected)["error"]["type"] == "celery.exceptions.Reject"
    assert busy.final(again)["result"] == "second"
    assert busy.final(again)["redelivered"] is True


def test_a_retry_that_cannot_be_sent_costs_no_task(busy: Bench) -> None:
    """Celery would reject the message for good and call the task failed."""
    event = busy.final(busy.send("retry_unsent", uuid4().hex))
    assert (event["state"], event["result"], event["redelivered"]) == ("succeeded", "retries 0", True)


def test_a_replaced_task_ends_with_its_replacement(busy: Bench) -> None:
    task_id = busy.send("replace", 5, attempt=3)
    event = busy.final(task_id)
    assert (event["result"], event["attempt"], event["task"]) == (15, 3, "everything.add")


def test_large_results_stay_out_of_events_but_not_out_of_celerys_key(busy: Bench) -> None:
    size = 1024 * 1024 + 1
    task_id = busy.send("large", size)
    event = busy.final(task_id)
    assert "result" not in event
    assert event["result_omitted_bytes"] == size + 2
    assert len(busy.result(task_id).get(timeout=10)) == size


def test_what_json_cannot_say_becomes_something_it_can(busy: Bench) -> None:
    event = busy.final(busy.send("strange"))
    assert event["result"] == {"nan": None, "when": "2024-01-02", "sum": "1.5", "text": "a?b"}


def test_messages_that_no_task_fits_fail_visibly(busy: Bench) -> None:
    unknown, broken, invalid = busy.send("everything.nope"), uuid4().hex, uuid4().hex
    headers = {"task": "everything.add", "lang": "py", _wire.HEADER_ATTEMPT: 1}
    busy.publish_raw(b"{broken", {**headers, "id": broken})
    busy.publish_raw(b"[[1], {}, {}]", {**headers, "id": invalid, "eta": "no time"})
    assert busy.final(unknown)["error"]["type"] == "celery.exceptions.NotRegistered"
    assert busy.result(unknown).state == "FAILURE"
    assert busy.final(broken)["state"] == "failed"
    assert busy.final(invalid)["state"] == "failed"


def test_a_refused_content_type_says_where_it_could_be_allowed(busy: Bench) -> None:
    message = busy.final(busy.send("add", 1, serializer="yaml"))["error"]["message"]
    assert "type yaml" in message
    assert "worker.acceptContent of the TaskQueue is [json]" in message


def test_an_unknown_task_with_attempts_left_waits_for_the_next_one(busy: Bench) -> None:
    task_id = busy.send("everything.later", attempt=1, max_attempts=3)
    assert busy.until(task_id, "retrying")["ends_attempt"] is True
    assert not busy.result(task_id).ready()


def test_plain_celery_producers_get_records(busy: Bench) -> None:
    task_id = busy.send("add", 1, attempt=None, kwargs={"y": 2})
    event = busy.final(task_id)
    assert (event["origin"], event["args"], event["kwargs"]) == ("celery", [1], {"y": 2})
    assert (event["attempt"], event["root_id"], event["parent_id"]) == (1, task_id, None)


def test_an_expired_task_is_not_run(busy: Bench) -> None:
    name = uuid4().hex
    headers = {"task": "everything.note", "id": uuid4().hex, "lang": "py", _wire.HEADER_ATTEMPT: 1}
    busy.publish_raw(json.dumps([[name], {}, {}]).encode(), {**headers, "expires": "2020-01-01T00:00:00+00:00"})
    assert busy.final(headers["id"])["state"] == "expired"
    assert busy.trace(name) == []


def test_a_cancelled_task_is_not_run_and_a_new_attempt_is(busy: Bench) -> None:
    task_id, name = uuid4().hex, uuid4().hex
    busy.redis.zadd(_wire.CANCELLED_KEY_PREFIX + busy.queue, {task_id: 2_000_000_000})
    order = json.dumps({"type": "cancel", "id": task_id, "terminate": False})
    assert busy.redis.publish(_wire.CONTROL_CHANNEL_PREFIX + busy.queue, order) == 1
    eventually_sync(lambda: task_id in (busy.app.control.inspect(timeout=0.5).revoked() or {"": []}).popitem()[1], 30)
    busy.send("note", name, task_id=task_id)
    assert busy.final(task_id)["state"] == "cancelled"
    assert busy.result(task_id).state == "REVOKED"
    busy.redis.zrem(_wire.CANCELLED_KEY_PREFIX + busy.queue, task_id)
    busy.send("note", name, task_id=task_id, attempt=2)
    assert busy.until(task_id, lambda event: event["attempt"] == 2)["state"] == "succeeded"
    assert busy.trace(name) == ["noted"]


def test_a_second_copy_of_a_finished_task_is_not_run(busy: Bench) -> None:
    name, again = uuid4().hex, {_wire.HEADER_REPUBLISHED: True}
    task_id = busy.send("note", name)
    busy.final(task_id)
    busy.send("note", name, task_id=task_id, headers=again)
    cancelled = uuid4().hex
    busy.redis.zadd(_wire.CANCELLED_KEY_PREFIX + busy.queue, {cancelled: 1})
    busy.send("note", name, task_id=cancelled, headers=dict(again))
    assert busy.final(cancelled)["state"] == "cancelled"
    busy.final(busy.send("noop"))
    eventually_sync(busy.is_drained, 20)
    assert busy.trace(name) == ["noted"]
    assert busy.steps(task_id) == ["succeeded"]


def test_hooks_of_the_apps_own_task_classes_run(busy: Bench) -> None:
    task_id = busy.send("counted", 1)
    assert busy.final(task_id)["result"] == 2
    assert busy.trace(task_id) == ["before"]
    assert busy.final(busy.send("shared", "loud"))["result"] == "LOUD"


def test_everything_is_acknowledged(busy: Bench) -> None:
    eventually_sync(busy.is_drained, 30)
