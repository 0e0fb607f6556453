"""The SQL records: every accepted task, its attempts, schedules and the copy of the queues. The only user of SQL."""

from taskfleet_api.records.callbacks import CallbackLease
from taskfleet_api.records.group_commit import GroupCommit
from taskfleet_api.records.labels import build_labels
from taskfleet_api.records.model import (
    Accepted,
    ApplyResult,
    AttemptRecord,
    CallbackRecord,
    CallbackState,
    CancelOutcome,
    KeyConflict,
    KeyConflictError,
    KeyRecord,
    NewCallback,
    NewTask,
    Outcome,
    Page,
    RetryPolicy,
    ScheduleRecord,
    TaskFilter,
    TaskRecord,
)
from taskfleet_api.records.sampling import QueueSample
from taskfleet_api.records.store import Records, open_records

__all__ = [
    "Accepted",
    "ApplyResult",
    "AttemptRecord",
    "CallbackLease",
    "CallbackRecord",
    "CallbackState",
    "CancelOutcome",
    "GroupCommit",
    "KeyConflict",
    "KeyConflictError",
    "KeyRecord",
    "NewCallback",
    "NewTask",
    "Outcome",
    "Page",
    "QueueSample",
    "Records",
    "RetryPolicy",
    "ScheduleRecord",
    "TaskFilter",
    "TaskRecord",
    "build_labels",
    "open_records",
]
