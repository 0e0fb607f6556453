"""Event streams: what a reader has not seen, and never more."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from taskfleet_api.records.model import TaskRecord
from taskfleet_api.tasks.streaming import EventCursor, parse_event_id, render_changes
from taskfleet_core.states import TaskState, position

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def build_record(state: TaskState = TaskState.RUNNING, attempt: int = 1, **members: Any) -> TaskRecord:
    values: dict[str, Any] = dict.fromkeys(TaskRecord.__dataclass_fields__)
    values |= {
        "id": UUID(int=1),
        "queue": "q",
        "task": "t",
        "state": state,
        "position": position(attempt, 0, state),
        "attempt": attempt,
        "retries": 0,
        "created_at": NOW,
        "updated_at": NOW,
        "progress_count": 0,
        "earlier_attempts": (),
    }
    return TaskRecord(**values | members)


def kinds(text: bytes) -> list[str]:
    return [line.removeprefix("event: ") for line in text.decode().split("\n") if line.startswith("event: ")]


def test_a_new_reader_gets_the_present_state() -> None:
    text, cursor = render_changes(build_record(), EventCursor())
    assert kinds(text) == ["state"]
    assert render_changes(build_record(), cursor)[0] == b""


def test_progress_comes_once_per_report_and_again_in_the_next_attempt() -> None:
    record = build_record(progress='{"done": 1}', progress_count=1)
    text, cursor = render_changes(record, EventCursor())
    assert kinds(text) == ["progress", "state"]
    text, cursor = render_changes(build_record(progress="{}", progress_count=2), cursor)
    assert kinds(text) == ["progress"]
    text, cursor = render_changes(build_record(attempt=2, progress="{}", progress_count=1), cursor)
    assert kinds(text) == ["progress", "state"]
    assert cursor == EventCursor(2, position(2, 0, TaskState.RUNNING), 1)


def test_a_reader_resumes_behind_what_it_saw() -> None:
    text, _ = render_changes(build_record(), EventCursor())
    last = next(line for line in text.decode().split("\n") if line.startswith("id: ")).removeprefix("id: ")
    assert render_changes(build_record(), parse_event_id(last))[0] == b""
    assert kinds(render_changes(build_record(TaskState.SUCCEEDED), parse_event_id(last))[0]) == ["state"]


def test_an_older_state_is_never_told() -> None:
    _, cursor = render_changes(build_record(TaskState.SUCCEEDED), EventCursor())
    assert render_changes(build_record(TaskState.RUNNING), cursor)[0] == b""


def test_line_breaks_in_stored_json_do_not_end_the_field() -> None:
    text, _ = render_changes(build_record(TaskState.SUCCEEDED, result='{\n"a":\r\n1}'), EventCursor())
    assert len(text.rstrip(b"\n").split(b"\n")) == 3


@pytest.mark.parametrize("text", [None, "", "1", "a-b-c", "1-2-3-4", "-1-2-3", "\u0661-1-1", "1-" + "9" * 5000 + "-1"])
def test_any_other_last_id_is_the_beginning(text: str | None) -> None:
    assert parse_event_id(text) == EventCursor()
