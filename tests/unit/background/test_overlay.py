"""A record shows its task's newest state, whatever the recorder has not written yet."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.support.events import build_progress_event, build_record, build_state_event

from taskfleet_api.live import overlay
from taskfleet_core.states import TaskState


def test_a_newer_event_shows() -> None:
    record = build_record(TaskState.QUEUED)
    event = build_state_event(TaskState.SUCCEEDED, record.id, result={"ä": 1}, runtime_seconds=0.5)
    shown = overlay(record, event)
    assert (shown.state, shown.worker, shown.runtime_seconds) == (TaskState.SUCCEEDED, "w1", 0.5)
    assert json.loads(shown.result or "") == {"ä": 1}
    assert shown.finished_at is not None
    assert shown.finished_at.timestamp() == pytest.approx(event["at"])


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
