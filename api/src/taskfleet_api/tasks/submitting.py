"""Submissions: the rules between a parsed body and a committed record, and waiting for what comes of it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from taskfleet_api.access import get_caller
from taskfleet_api.background import Dispatcher, KnownQueue, QueueDirectory
from taskfleet_api.callbacks import CallbackPolicy
from taskfleet_api.records import Accepted, GroupCommit, KeyConflictError, NewTask, Outcome, Records, TaskRecord
from taskfleet_api.records.ids import build_task_id, created_at_of
from taskfleet_api.settings import Settings
from taskfleet_api.tasks.admission import Admission, OpenStreams
from taskfleet_api.tasks.callbacks import check_callback
from taskfleet_api.tasks.model import (
    HeldBackError,
    NewSubmission,
    SubmittedTask,
    build_unknown_task_error,
)
from taskfleet_api.tasks.reading import Tasks, explain_unstoppable
from taskfleet_api.tasks.visibility import find_queue
from taskfleet_core.errors import ConflictError, FieldError, InvalidInputError, TaskfleetError
from taskfleet_core.states import TaskState

__all__ = ["Submissions"]

LARGE_BATCH = 200  # above it a batch commits by itself and does not share
BATCHES_AT_ONCE = 4
OLDEST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)  # what every database can keep


class Submissions:
    """Accepting tasks and waiting for them."""

    def __init__(
        self,
        *,
        settings: Settings,
        records: Records,
        group: GroupCommit,
        dispatcher: Dispatcher,
        directory: QueueDirectory,
        admission: Admission,
        streams: OpenStreams,
        tasks: Tasks,
        callbacks: CallbackPolicy | None = None,
    ) -> None:
        self._settings = settings
        self._records = records
        self._group = group
        self._dispatcher = dispatcher
        self._directory = directory
        self._admission = admission
        self._streams = streams
        self._tasks = tasks
        self._callbacks = callbacks
        self._batches = asyncio.Semaphore(BATCHES_AT_ONCE)

    async def submit(self, submission: NewSubmission) -> SubmittedTask:
        """Accept one task: its record is committed when this returns.

        Raises NotFoundError (queue), InvalidInputError (task name), ConflictError (idempotency key),
        OverloadedError and RecordsUnavailableError.
        """
        await get_caller().prepare((submission.queue,))
        task = self.build_task(submission)
        counts = {submission.queue: 1}
        await self._admission.admit(submission.principal, counts)
        try:
            outcome = (await self._group.submit((task,)))[0]
        except TaskfleetError:
            self._admission.refund(submission.principal, counts)
            raise
        settled = settle(task, outcome)
        if isinstance(settled, ConflictError):
            raise settled
        if settled.replayed:
            return (await self._recall([settled]))[0]
        self._dispatcher.offer((task,))
        return settled

    async def submit_many(
        self, submissions: Sequence[NewSubmission | TaskfleetError], *, atomic: bool = False, one_key: bool = False
    ) -> list[SubmittedTask | TaskfleetError]:
        """Accept many in one transaction; an item's error stands in its place, also one that came in.

        `atomic`: all or nothing. `one_key`: the keys belong to the batch as a whole, one conflict refuses everything.
        Raises OverloadedError and RecordsUnavailableError, then nothing is accepted.
        """
        queues = {item.queue for item in submissions if isinstance(item, NewSubmission)}
        await get_caller().prepare(tuple(queues))
        tasks = [self._try_build(item) for item in submissions]
        good = [task for task in tasks if isinstance(task, NewTask)]
        if not good or (atomic and len(good) < len(tasks)):
            return [task if isinstance(task, TaskfleetError) else HeldBackError() for task in tasks]
        principal, counts = good[0].principal, Counter(task.queue for task in good)
        await self._admission.admit(principal, counts)
        try:
            outcomes = iter(await self._record_many(good, atomic or one_key))
        except TaskfleetError:
            self._admission.refund(principal, counts)
            raise
        settled: list[SubmittedTask | TaskfleetError] = [
            task if isinstance(task, TaskfleetError) else settle(task, next(outcomes)) for task in tasks
        ]
        new = {result.id for result in settled if isinstance(result, SubmittedTask) and not result.replayed}
        self._dispatcher.offer([task for task in good if task.id in new])
        if len(new) == len(tasks):
            return settled
        replays = [result for result in settled if isinstance(result, SubmittedTask) and result.replayed]
        recalled = iter(await self._recall(replays))
        return [next(recalled) if isinstance(s, SubmittedTask) and s.replayed else s for s in settled]

    async def wait(self, task_id: UUID, seconds: float) -> TaskRecord:
        """The record once it is final, or as it is when the time is over. Raises NotFoundError and OverloadedError."""
        slot = self._streams.slot("wait", min(seconds, self._settings.max_wait_seconds))
        async with slot, aclosing(self._tasks.follow(task_id)) as records:
            async for record in records:
                if record.state.is_final:
                    return record
        return await self._tasks.get(task_id)

    def build_task(self, submission: NewSubmission) -> NewTask:
        """The row of a submission. Raises NotFoundError, InvalidInputError and ConflictError; does no I/O."""
        queue = find_queue(self._directory, submission.queue)
        if queue.scale_only or submission.timeout_seconds is not None:
            check_abilities(queue, submission.timeout_seconds)
        if self._directory.knows_task(submission.queue, submission.task) is False:
            raise build_unknown_task_error(submission.queue, submission.task, list(queue.catalog), "#/task")
        url = submission.callback_url
        callback = None if url is None else check_callback(self._callbacks, url)
        task_id = build_task_id()
        created_at = created_at_of(task_id)
        return NewTask(
            id=task_id,
            queue=submission.queue,
            task=submission.task,
            created_at=created_at,
            args_json=submission.args_json,
            kwargs_json=submission.kwargs_json,
            metadata_json=submission.metadata_json,
            labels=submission.labels,
            priority=submission.priority,
            eta=_later(created_at, submission.eta, submission.countdown_seconds),
            expires_at=_expiry(created_at, submission.expires_at, submission.ttl_seconds),
            retry=submission.retry,
            timeout_seconds=submission.timeout_seconds,
            traceparent=submission.traceparent,
            origin=submission.origin,
            principal=submission.principal,
            idempotency_key=submission.idempotency_key,
            body_hash=submission.body_hash,
            callback=callback,
        )

    async def _recall(self, replays: Sequence[SubmittedTask]) -> list[SubmittedTask]:
        """The answers that the first requests got: whether they were scheduled is in their records."""
        found = await self._records.get_many([replay.id for replay in replays]) if replays else {}
        return [
            msgspec.structs.replace(replay, state=TaskState.SCHEDULED)
            if (record := found.get(replay.id)) is not None and record.eta is not None
            else replay
            for replay in replays
        ]

    def _try_build(self, item: NewSubmission | TaskfleetError) -> NewTask | TaskfleetError:
        if isinstance(item, TaskfleetError):
            return item
        try:
            return self.build_task(item)
        except TaskfleetError as error:
            return error

    async def _record_many(self, tasks: Sequence[NewTask], atomic: bool) -> Sequence[Outcome]:
        if len(tasks) < LARGE_BATCH and not atomic:
            return await self._group.submit(tasks)
        async with self._batches:
            try:
                return await self._records.insert_tasks(tasks, atomic=atomic)
            except KeyConflictError as error:
                raise ConflictError(_describe_conflict(next(iter(error.conflicts.values())).key)) from error


def settle(task: NewTask, outcome: Outcome) -> SubmittedTask | ConflictError:
    """What the caller is told of one outcome."""
    if not isinstance(outcome, Accepted):
        return ConflictError(_describe_conflict(outcome.key))
    if not outcome.replayed:
        return SubmittedTask(
            id=task.id,
            state=TaskState.PENDING if task.eta is None else TaskState.SCHEDULED,
            queue=task.queue,
            task=task.task,
            created_at=task.created_at,
        )
    return SubmittedTask(
        id=outcome.record_id,
        state=TaskState.PENDING,
        queue=task.queue,
        task=task.task,
        created_at=created_at_of(outcome.record_id),
        replayed=True,
    )


def check_abilities(queue: KnownQueue, timeout_seconds: float | None) -> None:
    """Refuse what the queue's broker or pool cannot do. Raises ConflictError and InvalidInputError."""
    if queue.scale_only:
        raise ConflictError(
            f"Queue {queue.name!r} is on a broker that this API does not publish to; it is only scaled here."
        )
    if timeout_seconds is None:
        return
    if not queue.can_stop_tasks:
        detail = explain_unstoppable(queue)
        raise InvalidInputError(detail, (FieldError("#/timeout_seconds", detail),))
    longest = queue.registration.get("limits", {}).get("maxTaskSeconds")
    if longest is not None and timeout_seconds > longest:
        detail = f"Queue {queue.name!r} stops tasks after {longest:g} s; give at most that."
        raise InvalidInputError(detail, (FieldError("#/timeout_seconds", detail),))


def _describe_conflict(key: str) -> str:
    return f"The idempotency key {key[:80]!r} was used before with another body."


def _later(created_at: datetime, eta: datetime | None, countdown_seconds: float | None) -> datetime | None:
    """When to run; None for at once."""
    if countdown_seconds:
        eta = created_at + timedelta(seconds=countdown_seconds)
    return eta if eta is not None and eta > created_at else None


def _expiry(created_at: datetime, expires_at: datetime | None, ttl_seconds: float | None) -> datetime | None:
    if ttl_seconds is not None:
        return created_at + timedelta(seconds=ttl_seconds)
    return expires_at if expires_at is None else max(expires_at, OLDEST_MOMENT)
