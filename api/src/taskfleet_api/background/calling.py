"""CallbackSender: tells receivers that tasks have ended, until they have heard it or the callback is given up.

Each replica runs one. The database leases a callback to one of them; whose replica dies in between is called again.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.callbacks import Delivery
from taskfleet_api.records import CallbackLease, CallbackRecord, CallbackState, Records, TaskRecord
from taskfleet_api.telemetry import counter
from taskfleet_core.backoff import decide_backoff_seconds
from taskfleet_core.ending import end_task

__all__ = ["Call", "CallbackSender", "decide_outcome"]

log = structlog.get_logger()
audit = structlog.get_logger("taskfleet.audit")

Call = Callable[[TaskRecord, CallbackRecord], Awaitable[Delivery]]
"""Calls the receiver once; bounded in time."""

ERROR_LENGTH = 200


def decide_outcome(
    record: CallbackRecord, delivery: Delivery, options: BackgroundOptions, now: datetime, chance: float
) -> CallbackRecord:
    """How a callback stands after one more call. `chance` in [0, 1) spreads the next ones. Pure."""
    told = replace(record, updated_at=now, due_at=None, last_status=delivery.status, last_error=delivery.error)
    if delivery.error is None:
        return replace(told, state=CallbackState.DELIVERED)
    told = replace(told, last_error=delivery.error[:ERROR_LENGTH])
    if delivery.final or record.tries >= options.callback_attempts:
        return replace(told, state=CallbackState.GIVEN_UP)
    longest = options.callback_max_backoff_seconds
    pause = decide_backoff_seconds(record.tries, options.callback_backoff_seconds, longest, chance)
    pause = max(pause, min(delivery.retry_after_seconds or 0.0, longest))
    return replace(told, due_at=now + timedelta(seconds=pause))


class CallbackSender:
    """Takes what is due, calls, and writes down what came of it."""

    def __init__(self, records: Records, call: Call, options: BackgroundOptions) -> None:
        self._records = records
        self._call = call
        self._options = options
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._reviewed: tuple[datetime, UUID] | None = None

    async def step(self) -> float:
        """Start the calls that there is room for; at once again when one of them has ended."""
        options = self._options
        free = options.callback_concurrency - len(self._under_way)
        if free > 0:
            lease = CallbackLease(
                slots=free,
                per_receiver=options.callback_concurrency_per_host,
                seconds=options.callback_timeout_seconds + options.callback_lease_margin_seconds,
                under_way=Counter(self._under_way.values()),
            )
            for record in await self._records.claim_callbacks(datetime.now(UTC), lease):
                task = asyncio.create_task(self._run(record), name=f"callback-{record.task_id}")
                self._under_way[task] = record.receiver
                task.add_done_callback(self._under_way.pop)
        if not self._under_way:
            return options.callback_interval_seconds
        await asyncio.wait(
            self._under_way, timeout=options.callback_interval_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        return 0.0

    async def review_step(self) -> float:
        """Search one page of waiting callbacks for ends that an older release, which knew none, has recorded."""
        options = self._options
        found, self._reviewed = await self._records.review_callbacks(
            self._reviewed, options.callback_review_batch, datetime.now(UTC)
        )
        if found:
            log.warning("callbacks_found_late", callbacks=found)
        return options.callback_review_seconds

    async def close(self, grace_seconds: float) -> None:
        """Let calls end; what takes longer is made again by any replica once its lease has ended."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=grace_seconds)
        await asyncio.gather(*(end_task(task) for task in tuple(self._under_way)))

    async def _run(self, callback: CallbackRecord) -> None:
        try:
            record = await self._records.get(callback.task_id)
            if record is None:
                return  # deleted, and the callback with it
            delivery = await self._call(record, callback)
            outcome = decide_outcome(callback, delivery, self._options, datetime.now(UTC), random.random())
            if await self._records.settle_callback(outcome):
                _tell(outcome)
        except Exception:
            # Its lease ends, and it is tried again.
            log.exception("callback_failed_inside", task_id=str(callback.task_id))


def _tell(outcome: CallbackRecord) -> None:
    """Count and log. Never the URL: whoever knows it might call the receiver."""
    counter("taskfleet_callbacks_total").labels(_OUTCOMES[outcome.state]).inc()
    fields = {
        "task_id": str(outcome.task_id),
        "receiver": outcome.receiver,
        "attempt": outcome.attempt,
        "tries": outcome.tries,
        "status": outcome.last_status,
        "error": outcome.last_error,
    }
    if outcome.state is CallbackState.GIVEN_UP:
        audit.warning("callback_given_up", **fields)
    elif outcome.state is CallbackState.DELIVERED:
        audit.info("callback_delivered", **fields)
    else:
        log.info("callback_failed", **fields)


_OUTCOMES = {
    CallbackState.DELIVERED: "delivered",
    CallbackState.PENDING: "failed",
    CallbackState.GIVEN_UP: "given_up",
}
