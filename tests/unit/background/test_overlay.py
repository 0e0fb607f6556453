"""A record shows its task's newest state, whatever the recorder has not written yet."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.support.events import build_progress_event, build_record, build_state_event

from taskfleet_api.live import overlay
from taskfleet_api.records.merging import Attempt, Known, merge, parse_event
from taskfleet_core.states import TaskState


def test_a_newer_event_shows() -> None:
    record = build_record(TaskState.QUEUED)
    event = build_state_event(TaskState.SUCCEEDED, record.id, result={"ä": 1}, runtime_seconds=0.5)
    shown = overlay(record, event)
    assert (shown.state, shown.worker, shown.runtime_seconds) == (TaskState.SUCCEEDED, "w1", 0.5)
    assert json.loads(shown.result or "") == {"ä": 1}
    assert shown.finished_at is not None
    assert shown.finished_at.timestamp() == pytest.approx(event["at"])


AS_RECORDED = (
    "state", "position", "attempt", "retries", "started_at", "worker", "runtime_seconds", "deliveries",
    "result", "result_omitted_bytes", "error",
)  # fmt: skip
HISTORIES: dict[str, list[tuple[TaskState, dict[str, Any]]]] = {
    "seen at its end only": [(TaskState.SUCCEEDED, {"result": 42, "runtime_seconds": 0.5})],
    "seen at its start": [(TaskState.RUNNING, {}), (TaskState.SUCCEEDED, {"result": None, "runtime_seconds": 0.1})],
    "delivered again": [(TaskState.SUCCEEDED, {"result": 1, "runtime_seconds": 0.1, "deliveries": 3})],
    "retried by the app": [
        (TaskState.RETRYING, {"error": {"type": "E"}, "runtime_seconds": 0.1}),
        (TaskState.RUNNING, {"retries": 1}),
    ],
    "cancelled before it ran": [(TaskState.CANCELLED, {"worker": ""})],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_what_is_shown_is_what_will_be_recorded(history: list[tuple[TaskState, dict[str, Any]]]) -> None:
    """A reader that asks while the recorder is behind sees when the task started, too."""
    record = build_record(TaskState.QUEUED)
    current = Attempt(record.attempt, record.position, record.state.value, started_at=record.started_at)
    known = Known(record.id, current, record.created_at, "api", None, cancel_requested=False, needs_args=False)
    events = [build_state_event(state, record.id, **more) for state, more in history]
    for event in events:
        record = overlay(record, event)
    observations = [seen for seen in map(parse_event, events) if seen is not None]
    recorded = merge(known, observations, record.updated_at).current
    assert len(observations) == len(events)
    assert record.finished_at == recorded.finished_at
    shown = {name: getattr(record, name) for name in AS_RECORDED}
    for name in ("result", "error"):  # one text of the same value
        shown[name] = shown[name] and json.dumps(json.loads(shown[name]), separators=(",", ":"))
    assert shown == {name: getattr(recorded, name) for name in AS_RECORDED}


def test_an_older_event_changes_nothing() -> None:
    record = build_record(TaskState.SUCCEEDED)
    assert overlay(record, build_state_event(TaskState.RUNNING, record.id)) is record
    assert overlay(record, build_state_event(TaskState.FAILED, record.id)) is record


def test_a_null_result_is_a_result() -> None:
    record = build_record(TaskState.RUNNING)
    assert overlay(record, build_state_event(TaskState.SUCCEEDED, record.id, result=None)).result == "null"


def test_a_second_worker_replaces_the_first() -> None:
    record = replace(build_record(TaskState.RUNNING), worker="w0")
    assert overlay(record, build_state_event(TaskState.RUNNING, record.id)).worker == "w1"


def test_nothing_of_an_earlier_attempt_shows_through_a_new_one() -> None:
    record = replace(build_record(TaskState.FAILED), error='{"type":"E"}', runtime_seconds=1.0, progress="1")
    shown = overlay(record, build_state_event(TaskState.RUNNING, record.id, attempt=2))
    assert (shown.attempt, shown.error, shown.runtime_seconds, shown.progress) == (2, None, None, None)


def test_a_state_of_a_later_release_is_left_alone() -> None:
    record = build_record()
    event: Any = build_state_event(TaskState.RUNNING, record.id) | {"state": "hibernating", "position": 9_999_999}
    assert overlay(record, event) is record


@pytest.mark.parametrize(
    ("count", "attempt", "expected"),
    [(2, 1, '{"done": 5}'), (1, 1, "0"), (2, 2, "0")],
    ids=["newer", "older", "of another attempt"],
)
def test_progress_shows_when_it_is_newer(count: int, attempt: int, expected: str) -> None:
    record = replace(build_record(TaskState.RUNNING), progress="0", progress_count=1)
    assert overlay(record, None, build_progress_event(record.id, count, {"done": 5}, attempt=attempt)).progress == (
        expected
    )
