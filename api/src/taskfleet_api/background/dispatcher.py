"""Dispatcher: publishes tasks right after their commit; what it cannot publish stays for the sweeper."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from taskfleet_api.background.composing import build_message_of, is_publishable
from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.background.outbox import Outbox
from taskfleet_api.brokers import FailureKind
from taskfleet_api.records import NewTask, Records, TaskRecord
from taskfleet_core.waiting import wait_for_event

__all__ = ["Dispatcher"]

log = structlog.get_logger()

IDLE_SECONDS = 5.0  # a step without work ends after it, so that the loop shows life
OFFLINE_SECONDS = 0.05
MARK_PAUSE_SECONDS = 0.02  # collects marks: a transaction per task would cost more than the publish
GRACE_SHARE = 0.8  # of the grace: later the sweepers may have claimed the task

Row = NewTask | TaskRecord


class Dispatcher:
    """Bounded in-memory hand-over from commit to broker; losing it loses nothing, the record says `pending`.

    A task is the dispatcher's until most of the grace is over and the sweepers' afterwards, so that after an outage
    it is published once. Several loops run `publish_step`, one runs `mark_step`.
    """

    def __init__(self, records: Records, outbox: Outbox, options: BackgroundOptions) -> None:
        self._records = records
        self._outbox = outbox
        self._options = options
        self._rows: deque[tuple[Row, datetime]] = deque()
        self._confirmed: deque[tuple[UUID, int]] = deque()
        self._offered = asyncio.Event()
        self._to_mark = asyncio.Event()
        self._in_flight = 0

    def offer(self, rows: Sequence[Row]) -> int:
        """Take committed tasks (NewTask, or TaskRecord of a new attempt); returns how many fitted.

        Never waits and never raises. Tasks with an `eta` are ignored until they are due: they are the sweeper's.
        """
        now = datetime.now(UTC)
        room = self._options.dispatch_capacity - len(self._rows)
        taken = [(row, self._keep_until(row, now)) for row in rows if _is_due(row, now)][: max(0, room)]
        self._rows.extend(taken)
        if taken:
            self._offered.set()
        return len(taken)

    @property
    def waiting(self) -> int:
        """How many tasks wait in memory."""
        return len(self._rows)

    async def publish_step(self) -> float:
        """Publish one window of what waits."""
        if not self._rows:
            self._offered.clear()
            await wait_for_event(self._offered, IDLE_SECONDS)
        if not self._outbox.connected:
            self._drop_overdue(datetime.now(UTC))
            return OFFLINE_SECONDS
        window = self._take_window(datetime.now(UTC))
        if window:
            await self._publish(window)
        return 0.0

    async def mark_step(self) -> float:
        """Mark one batch of confirmed tasks as queued; kept and tried again while the database is away."""
        if not self._confirmed:
            self._to_mark.clear()
            await wait_for_event(self._to_mark, IDLE_SECONDS)
        batch = [self._confirmed.popleft() for _ in range(min(len(self._confirmed), self._options.mark_batch))]
        if not batch:
            return 0.0
        try:
            await self._records.mark_queued([task_id for task_id, _ in batch], dict(batch))
        except BaseException:
            self._confirmed.extendleft(reversed(batch))
            raise
        return MARK_PAUSE_SECONDS

    async def drain(self, grace_seconds: float) -> bool:
        """Wait until everything in memory is published and marked, at most so long; whether it was."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                while self._rows or self._in_flight or self._confirmed:  # noqa: ASYNC110 - once, at the end
                    await asyncio.sleep(OFFLINE_SECONDS / 5)
                return True
        return False

    def _keep_until(self, row: Row, now: datetime) -> datetime:
        grace = timedelta(seconds=self._options.republish_grace_seconds * GRACE_SHARE)
        return (row.created_at if isinstance(row, NewTask) else now) + grace

    def _take_window(self, now: datetime) -> list[tuple[Row, datetime]]:
        window: list[tuple[Row, datetime]] = []
        while self._rows and len(window) < self._options.publish_batch:
            row, keep_until = self._rows.popleft()
            if keep_until > now:
                window.append((row, keep_until))
        return window

    def _drop_overdue(self, now: datetime) -> None:
        """While the broker is away, hand what is over its time to the sweepers, so that memory stays free."""
        dropped = 0
        while self._rows and self._rows[0][1] <= now:
            self._rows.popleft()
            dropped += 1
        if dropped:
            log.info("dispatch_left_to_sweeper", tasks=dropped)

    async def _publish(self, window: list[tuple[Row, datetime]]) -> None:
        now = datetime.now(UTC)
        messages = [build_message_of(row, now) for row, _ in window]
        self._in_flight += len(window)
        try:
            outcomes = await self._outbox.publish(messages)
            # Only what was certainly not sent may be sent again without the mark of a possible copy.
            for (row, keep_until), message, failure in zip(window, messages, outcomes, strict=True):
                if failure is None:
                    self._confirmed.append((row.id, message.attempt))
                elif failure.kind is FailureKind.RETURNED and keep_until > now:
                    self._retry_later(row, keep_until)
            self._to_mark.set()
        finally:
            self._in_flight -= len(window)

    def _retry_later(self, row: Row, keep_until: datetime) -> None:
        """The queue was missing and is being declared: a second look is cheap, the grace bounds it."""
        delay = self._options.returned_retry_seconds
        asyncio.get_running_loop().call_later(delay, self._put_back, row, keep_until)

    def _put_back(self, row: Row, keep_until: datetime) -> None:
        if len(self._rows) < self._options.dispatch_capacity:
            self._rows.append((row, keep_until))
            self._offered.set()


def _is_due(row: Row, now: datetime) -> bool:
    if isinstance(row, TaskRecord):
        return is_publishable(row) and (row.due_at is None or row.state.value == "pending" or row.due_at <= now)
    return row.eta is None
