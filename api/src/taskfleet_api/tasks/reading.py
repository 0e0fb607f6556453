"""Reading and steering accepted tasks: the SQL record is the truth, the live state is laid over it."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import structlog

from taskfleet_api.access import get_caller
from taskfleet_api.background import Dispatcher, KnownQueue, QueueDirectory
from taskfleet_api.background.composing import build_event
from taskfleet_api.live import LiveStore, overlay
from taskfleet_api.records import CancelOutcome, Page, Records, TaskFilter, TaskRecord
from taskfleet_core.errors import ConflictError, InvalidInputError, NotFoundError, StoreUnavailableError
from taskfleet_core.events import TaskEvent
from taskfleet_core.states import TaskState

__all__ = ["Tasks", "explain_unstoppable"]

REREAD_SECONDS = 15.0
DISCONNECTED_REREAD_SECONDS = 1.0
log = structlog.get_logger()


class Tasks:
    """Reading and steering accepted tasks."""

    def __init__(self, *, records: Records, live: LiveStore, dispatcher: Dispatcher, directory: QueueDirectory) -> None:
        self._records = records
        self._live = live
        self._dispatcher = dispatcher
        self._directory = directory

    async def get(self, task_id: UUID) -> TaskRecord:
        """The record overlaid with the live state. Raises NotFoundError."""
        record = await self._records.get(task_id)
        if record is None or not await get_caller().may_see(record.queue):
            raise NotFoundError(f"There is no task {task_id}.")
        return (await self._overlay_all((record,)))[0]

    async def list(self, wanted: TaskFilter, cursor: str | None = None, limit: int = 50) -> Page:
        """One page, newest first. Raises NotFoundError for a cursor that belongs to no page of this listing."""
        return await self.list_restricted(await self.restrict(wanted), cursor, limit)

    async def restrict(self, wanted: TaskFilter) -> TaskFilter:
        """The filter with the queues that the caller sees, where these are not all."""
        caller = get_caller()
        if caller.sees_all:
            return wanted
        await caller.prepare(self._directory.names())
        return replace(wanted, only_queues=tuple(caller.select(self._directory.names())))

    async def list_restricted(self, wanted: TaskFilter, cursor: str | None, limit: int) -> Page:
        """The page of a filter that says itself which queues may be seen. Raises as `list` does."""
        try:
            page = await self._records.list_tasks(wanted, cursor, limit)
        except InvalidInputError as error:
            raise NotFoundError("There is no such page: the cursor belongs to another listing or to none.") from error
        return Page(list(await self._overlay_all(page.items)), page.next_cursor)

    async def follow(self, task_id: UUID) -> AsyncGenerator[TaskRecord]:
        """The record now, after every change and every 15 s without one, for ever. Raises NotFoundError.

        Without Redis the record is read every second; an event that got lost is made up for after a while.
        """
        async with self._live.subscribe([str(task_id)]) as updates:
            record = await self.get(task_id)
            yield record
            while True:
                event = await updates.next(REREAD_SECONDS if updates.connected else DISCONNECTED_REREAD_SECONDS)
                if event is None or not await get_caller().may_see(record.queue):
                    record = await self.get(task_id)
                else:
                    record = _overlay_event(record, event)
                yield record

    async def follow_many(self, ids: Sequence[UUID]) -> AsyncGenerator[Sequence[TaskRecord]]:
        """Those of the tasks that exist for the caller, then what changed of them, for ever; as `follow` does.

        Nothing changed within 15 s: an empty sequence.
        """
        async with self._live.subscribe(list(map(str, ids))) as updates:
            records = await self._fetch_visible(ids)
            yield list(records.values())
            while True:
                event = await updates.next(REREAD_SECONDS if updates.connected else DISCONNECTED_REREAD_SECONDS)
                if event is None:
                    read = await self._fetch_visible(ids)
                    changed = [record for key, record in read.items() if record != records.get(key)]
                    records = read
                elif (record := records.get(UUID(event["id"]))) is not None and await get_caller().may_see(
                    record.queue
                ):
                    records[record.id] = _overlay_event(record, event)
                    changed = [records[record.id]]
                else:
                    continue
                yield changed

    async def check_any(self, ids: Sequence[UUID]) -> None:
        """Raise NotFoundError when none of the tasks exists for the caller."""
        if not await self._fetch_visible(ids):
            raise NotFoundError("There is none of these tasks.")

    async def _fetch_visible(self, ids: Sequence[UUID]) -> dict[UUID, TaskRecord]:
        found = await self._records.get_many(ids)
        await get_caller().prepare(list({record.queue for record in found.values()}))
        visible = [record for record in found.values() if get_caller().sees(record.queue)]
        return {record.id: record for record in await self._overlay_all(visible)}

    async def cancel(self, task_id: UUID, *, terminate: bool = False) -> TaskRecord:
        """Cancel; a running task is stopped only with `terminate`. Raises NotFoundError and ConflictError."""
        record = await self.get(task_id)
        if record.state is TaskState.RUNNING:
            self._check_termination(record, terminate)
        outcome = CancelOutcome.ALREADY_FINAL if record.state.is_final else await self._records.cancel(task_id)
        if outcome is CancelOutcome.NOT_FOUND:
            raise NotFoundError(f"There is no task {task_id}.")
        if outcome is CancelOutcome.ALREADY_FINAL:
            state = (await self.get(task_id)).state
            raise ConflictError(f"Task {task_id} has ended already: {state.value}.")
        # Also what was not published yet may be on its way to the broker: workers are told in any case.
        try:
            await self._live.cancel(record.queue, str(task_id), terminate=terminate)
        except StoreUnavailableError:
            if outcome is CancelOutcome.NEEDS_WORKER:
                raise
        current = await self.get(task_id)
        if current.state is not TaskState.RUNNING and not current.state.is_final:
            await self._records.finish_cancelled(task_id)
            current = await self.get(task_id)
        if current.state is TaskState.CANCELLED:
            await self._announce(current)
        return current

    async def retry(self, task_id: UUID) -> TaskRecord:
        """Start a new attempt of a task that ended badly. Raises NotFoundError and ConflictError."""
        if not get_caller().sees_all:
            await self.get(task_id)
        started = await self.start_attempts([task_id])
        if not started and await self._record_live_end(task_id):
            started = await self.start_attempts([task_id])
        if not started:
            record = await self.get(task_id)
            raise ConflictError(
                f"Task {task_id} is {record.state.value}; failed, dead, cancelled and expired tasks can be retried."
            )
        return await self.get(task_id)

    async def _record_live_end(self, task_id: UUID) -> bool:
        """See to it that a final state that readers see already is recorded; False when there is none."""
        try:
            live = (await self._live.fetch_states([str(task_id)])).get(str(task_id))
        except StoreUnavailableError:
            return False
        if live is None or live.event is None or not TaskState(live.event["state"]).is_final:
            return False
        await self._records.apply_events([live.event])  # nothing is applied when the recorder came first
        return True

    async def start_attempts(self, ids: Sequence[UUID]) -> Sequence[TaskRecord]:
        """Start the next attempt of those that ended badly, and say so to their readers."""
        started = await self._records.start_attempt(ids, datetime.now(UTC))
        await self._readmit(started)
        self._dispatcher.offer(started)
        for record in started:
            if not await self._announce(record):
                break
        return started

    async def _readmit(self, started: Sequence[TaskRecord]) -> None:
        """Before a new attempt is published: a worker that still knows of a cancellation would not run it."""
        queues: dict[str, list[str]] = {}
        for record in started:
            queues.setdefault(record.queue, []).append(str(record.id))
        try:
            for queue, ids in queues.items():
                await self._live.readmit(queue, ids)
        except StoreUnavailableError:
            log.warning("readmission_lost", tasks=len(started))

    async def _overlay_all(self, records: Sequence[TaskRecord]) -> Sequence[TaskRecord]:
        open_ids = [str(record.id) for record in records if not record.state.is_final]
        if not open_ids:
            return records
        try:
            states = await self._live.fetch_states(open_ids)
        except StoreUnavailableError:
            return records
        return [
            overlay(record, live.event, live.progress) if (live := states.get(str(record.id))) else record
            for record in records
        ]

    def _check_termination(self, record: TaskRecord, terminate: bool) -> None:
        if not terminate:
            raise ConflictError(f"Task {record.id} is running; add ?terminate=true to stop it.")
        queue = self._directory.get(record.queue)
        if queue is not None and not queue.can_stop_tasks:
            raise ConflictError(explain_unstoppable(queue))

    async def _announce(self, record: TaskRecord) -> bool:
        """Tell readers; False when Redis is away: they find out from the record."""
        try:
            await self._live.announce(build_event(record, record.state, datetime.now(UTC)))
        except StoreUnavailableError:
            log.warning("announcement_lost", task_id=str(record.id), state=record.state.value)
            return False
        return True


def explain_unstoppable(queue: KnownQueue) -> str:
    """Why a running task of the queue goes on."""
    return f"The {queue.pool} pool of queue {queue.name!r} cannot stop a running task."


def _overlay_event(record: TaskRecord, event: TaskEvent) -> TaskRecord:
    return overlay(record, None, event) if event["kind"] == "progress" else overlay(record, event)
