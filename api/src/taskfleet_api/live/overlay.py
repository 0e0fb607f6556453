"""Overlay of a record with its task's live state, so that a reader sees the newest state at once. Pure."""

from typing import Any

from taskfleet_core.events import TaskEvent

__all__ = ["overlay"]


def overlay(record: Any, event: TaskEvent | None, progress: TaskEvent | None = None) -> Any:
    """The record (a TaskRecord) with `event` and `progress` applied where they are newer."""
    raise NotImplementedError
