"""Overlay of a record with its task's live state, so that a reader sees the newest state at once. Pure."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from taskfleet_api.records.merging import count_deliveries, decide_start, read_runtime
from taskfleet_api.records.model import TaskRecord
from taskfleet_core.events import TaskEvent
from taskfleet_core.states import TaskState, supersedes

__all__ = ["overlay"]


def overlay(record: TaskRecord, event: TaskEvent | None, progress: TaskEvent | None = None) -> TaskRecord:
    """The record with `event` and `progress` applied where they are newer, as the recorder will; what it does not know
    is left alone."""
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
    at, runtime_seconds = datetime.fromtimestamp(event["at"], UTC), read_runtime(event)
    ends = state.is_final or bool(event.get("ends_attempt"))
    started_at = decide_start(state, at, runtime_seconds, ends=ends)
    changes: dict[str, Any] = {
        "state": state,
        "position": event["position"],
        "attempt": event["attempt"],
        "retries": event["retries"],
        "updated_at": max(at, record.updated_at),
        "started_at": min(filter(None, (record.started_at, started_at)), default=None),
        "runtime_seconds": runtime_seconds,
        "result": json.dumps(event["result"], ensure_ascii=False) if "result" in event else None,
        "result_omitted_bytes": event.get("result_omitted_bytes"),
        "error": json.dumps(event["error"], ensure_ascii=False) if event.get("error") is not None else None,
    }
    if state.is_final:
        changes["finished_at"] = at
        changes["due_at"] = None
    if event.get("worker"):
        changes["worker"] = event["worker"]
    if started_at is not None or event.get("worker"):
        changes["deliveries"] = max(record.deliveries, count_deliveries(event))
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
        deliveries=0,
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
