"""Sweepers: publish what is due, expire what is too old, and run again what every part has lost. Any replica."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from taskfleet_api.background.composing import build_event, build_message_of, is_publishable
from taskfleet_api.background.directory import QueueDirectory
from taskfleet_api.background.monitor import QueueMonitor
from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.background.outbox import Outbox
from taskfleet_api.live import LiveState, LiveStore
from taskfleet_api.records import Records, TaskRecord
from taskfleet_api.telemetry import counter
from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.events import TaskEvent
from taskfleet_core.states import TaskState
from taskfleet_core.wire import HEARTBEAT_TTL_SECONDS

__all__ = ["DueSweeper", "ExpirySweeper", "LeaseSweeper", "select_lost"]

log = structlog.get_logger()


class DueSweeper:
    """Publishes what a dead replica left, what a delay or a platform retry made due, and what the broker missed."""

    def __init__(self, records: Records, outbox: Outbox, live: LiveStore, options: BackgroundOptions) -> None:
        self._records = records
        self._outbox = outbox
        self._live = live
        self._options = options

    async def step(self) -> float:
        """Claim and publish one batch; the next at once while there is more."""
        if not self._outbox.connected:
            return self._options.sweep_interval_seconds
        limit = self._options.sweep_batch
        lease_seconds = 2 * self._options.publish_timeout_seconds + self._options.republish_grace_seconds
        claimed = await self._records.claim_due(datetime.now(UTC), limit, lease_seconds)
        await self._refuse([record for record in claimed if not is_publishable(record)])
        await self._publish([record for record in claimed if is_publishable(record)])
        return 0.0 if len(claimed) == limit else self._options.sweep_interval_seconds

    async def _publish(self, records: Sequence[TaskRecord]) -> None:
        if not records:
            return
        now = datetime.now(UTC)
        # A mark that failed after its publish looks like a task never published: an earlier copy is always possible.
        outcomes = await self._outbox.publish([build_message_of(record, now, republished=True) for record in records])
        confirmed = {
            record.id: record.attempt for record, failure in zip(records, outcomes, strict=True) if failure is None
        }
        if confirmed:
            await self._records.mark_queued(list(confirmed), confirmed)
            counter("taskfleet_sweeper_tasks_total").labels("published").inc(len(confirmed))

    async def _refuse(self, records: Sequence[TaskRecord]) -> None:
        """A Celery producer's task whose arguments were never seen cannot be sent again: say so in its record."""
        error = {"type": "ArgumentsUnknown", "message": "The task was not submitted here, its arguments are unknown."}
        now = datetime.now(UTC)
        events = [build_event(record, TaskState.FAILED, now, error) for record in records]  # type: ignore[arg-type]
        if events:
            await self._records.apply_events(events)
            await announce_all(self._live, events)


class ExpirySweeper:
    """Ends tasks whose time to start is over."""

    def __init__(self, records: Records, live: LiveStore, options: BackgroundOptions) -> None:
        self._records = records
        self._live = live
        self._options = options

    async def step(self) -> float:
        """Expire one batch; the next at once while there is more."""
        expired = await self._records.expire_due(datetime.now(UTC), self._options.sweep_batch)
        if expired:
            counter("taskfleet_sweeper_tasks_total").labels("expired").inc(len(expired))
            records = await self._records.get_many([task_id for task_id, _ in expired])
            await announce_all(
                self._live,
                [
                    build_event(record, TaskState.EXPIRED, record.finished_at or record.updated_at)
                    for record in records.values()
                    if record.state is TaskState.EXPIRED
                ],
            )
        full = len(expired) == self._options.sweep_batch
        return 0.0 if full else self._options.sweep_interval_seconds


class LeaseSweeper:
    """Finds open tasks that broker, workers and live state have all forgotten, and starts their next attempt.

    Unknown is not zero: without fresh figures of the broker, or with heartbeats unreadable, nothing is lost.
    """

    def __init__(
        self,
        records: Records,
        live: LiveStore,
        directory: QueueDirectory,
        monitor: QueueMonitor,
        options: BackgroundOptions,
    ) -> None:
        self._records = records
        self._live = live
        self._directory = directory
        self._monitor = monitor
        self._options = options

    async def step(self) -> float:
        """Look at every queue that has been quiet for the whole lease."""
        readable = self._monitor.heartbeats_readable_seconds()
        if readable is not None and readable > min(HEARTBEAT_TTL_SECONDS, self._options.lease_quiet_seconds):
            for queue in self._directory.names():
                quiet = self._monitor.quiet_seconds(queue)
                if quiet is not None and quiet >= self._options.lease_quiet_seconds:
                    await self._sweep(queue)
        return self._options.lease_interval_seconds

    async def _sweep(self, queue: str) -> None:
        now = datetime.now(UTC)
        older_than = now - timedelta(seconds=self._options.lease_quiet_seconds)
        stale = await self._records.stale_open(queue, older_than, self._options.sweep_batch)
        if not stale:
            return
        in_hand = await self._live.fetch_tasks_in_hand(queue, certain=True)
        states = await self._live.fetch_states([str(record.id) for record in stale])
        lost = select_lost(stale, in_hand, states, now, self._options.lease_quiet_seconds)
        if not lost or self._monitor.quiet_seconds(queue) is None:
            return
        begun = await self._records.republish(lost, now, older_than=older_than)
        counter("taskfleet_sweeper_tasks_total").labels("lost").inc(len(begun))
        for record in begun:
            log.warning("task_lost", task_id=str(record.id), queue=queue, next_attempt=record.attempt)
        await announce_all(self._live, [build_event(record, record.state, now) for record in begun])


def select_lost(
    stale: Sequence[TaskRecord],
    in_hand: AbstractSet[str],
    states: Mapping[str, LiveState],
    now: datetime,
    quiet_seconds: float,
) -> list[UUID]:
    """Which stale records nobody knows any more.

    Kept: what a worker names; what has a newer live state (the recorder is behind); what Celery runs again later.
    """
    lost = []
    for record in stale:
        task_id = str(record.id)
        state = states.get(task_id)
        event = state.event if state else None
        if record.state.is_final or task_id in in_hand:
            continue
        if event is not None and event["position"] > record.position:
            continue
        if event is not None and event.get("retry_at", 0.0) + quiet_seconds > now.timestamp():
            continue
        lost.append(record.id)
    return lost


async def announce_all(live: LiveStore, events: Sequence[TaskEvent]) -> None:
    """Tell waiting readers; without Redis they read the records, so nothing is lost by giving up."""
    try:
        for event in events:
            await live.announce(event)
    except StoreUnavailableError as error:
        log.warning("announcement_lost", events=len(events), error=str(error))
