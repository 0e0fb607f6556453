"""Overlay of a record with its task's live state, so that a reader sees the newest state at once. Pure."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from taskfleet_api.records.model import TaskRecord
from taskfleet_core.events import TaskEvent
from taskfleet_core.states import TaskState, supersedes

__all__ = ["overlay"]


def overlay(record: TaskRecord, event: TaskEvent | None, progress: TaskEvent | None = None) -> TaskRecord:
    """The record with `event` and `progress` applied where they are newer; what it does not know is left alone."""
    if event is not None:
        record = _with_state(record, event)
    if progress is not None:
        record = _with_progress(record, progress)
    return record


def _with_state(record: TaskRecord, event: TaskEvent) -> TaskRecord:
    try:
        state = TaskState(event["state"])
    except ValueError:  # of a newer version
        return record
    if not supersedes(event["position"], record.position, state):
        return record
    if event["attempt"] > record.attempt:
        record = _without_outcome(record)
    at = datetime.fromtimestamp(event["at"], UTC)
    changes: dict[str, Any] = {
        "state": state,
        "position": event["position"],
        "attempt": event["attempt"],
        "retries": event["retries"],
        "updated_at": max(at, record.updated_at),
    }
    if state is TaskState.RUNNING:
        changes["started_at"] = at
    if state.is_final:
        changes["finished_at"] = at
        changes["due_at"] = None
    for name in ("worker", "runtime_seconds", "result_omitted_bytes"):
        if name in event:
            changes[name] = event[name]
    for name in ("result", "error"):
        if name in event:
            changes[name] = json.dumps(event[name], ensure_ascii=False)  # type: ignore[literal-required]
    return replace(record, **changes)


def _without_outcome(record: TaskRecord) -> TaskRecord:
    """The record as a new attempt begins: nothing of the earlier attempt may show through."""
    return replace(
        record,
        started_at=None,
        finished_at=None,
        worker=None,
        result=None,
        result_omitted_bytes=None,
        error=None,
        progress=None,
        progress_count=0,
        runtime_seconds=None,
    )


def _with_progress(record: TaskRecord, event: TaskEvent) -> TaskRecord:
    newer = event["attempt"] == record.attempt and event.get("progress_count", 0) > record.progress_count
    if not newer or "progress" not in event:
        return record
    return replace(
        record,
        progress=json.dumps(event["progress"], ensure_ascii=False),
        progress_count=event.get("progress_count", 0),
    )
