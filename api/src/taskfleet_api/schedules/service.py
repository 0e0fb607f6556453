"""Keeping periodic tasks, independent of HTTP. The ticker in the background runs them."""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from taskfleet_api.access import get_caller
from taskfleet_api.background import (
    QueueDirectory,
    ScheduleRule,
    ScheduleSpec,
    build_spec_json,
    compute_next_tick,
    parse_spec,
    validate_rule,
)
from taskfleet_api.callbacks import CallbackPolicy
from taskfleet_api.records import Records, RetryPolicy, ScheduleRecord, build_labels
from taskfleet_api.schedules.schemas import NewScheduleInput, ScheduleInput
from taskfleet_api.tasks.callbacks import check_callback
from taskfleet_api.tasks.model import build_unknown_task_error
from taskfleet_api.tasks.submitting import check_abilities
from taskfleet_api.tasks.visibility import find_queue
from taskfleet_core.errors import ConflictError, InvalidInputError, NotFoundError

__all__ = ["Schedules", "TemplateText"]


class TemplateText:
    """The JSON members of a schedule as the caller wrote them."""

    def __init__(self, members: dict[str, bytes]) -> None:
        self.args = members.get("args", b"[]").decode()
        self.kwargs = members.get("kwargs", b"{}").decode()
        self.metadata = members["metadata"].decode() if members.get("metadata", b"null") != b"null" else None


class Schedules:
    """Periodic tasks by id."""

    def __init__(self, *, records: Records, directory: QueueDirectory, callbacks: CallbackPolicy | None = None) -> None:
        self._records = records
        self._callbacks = callbacks
        self._directory = directory

    async def get(self, schedule_id: str) -> ScheduleRecord:
        """The schedule. Raises NotFoundError."""
        found = await self._records.get_schedule(schedule_id)
        if found is None or not await get_caller().may_see(found.queue):
            raise NotFoundError(f"There is no schedule {schedule_id[:128]!r}.")
        return found

    async def list(self, after: str | None, limit: int) -> Sequence[ScheduleRecord]:
        """Schedules by id, those behind `after`, of queues that the caller sees."""
        caller = get_caller()
        found: list[ScheduleRecord] = []
        await caller.prepare(self._directory.names())
        while len(found) < limit:
            page = await self._records.list_schedules(after, limit)
            found += [schedule for schedule in page if caller.sees(schedule.queue)]
            if len(page) < limit:
                break
            after = page[-1].id
        return found[:limit]

    async def create(self, wanted: NewScheduleInput, text: TemplateText, principal: str) -> ScheduleRecord:
        """Create one. Raises ConflictError when the id is taken, else as `put`."""
        return (await self._save(wanted.id or uuid.uuid4().hex, wanted, text, principal, replaces=False))[0]

    async def put(
        self, schedule_id: str, wanted: ScheduleInput, text: TemplateText, principal: str
    ) -> tuple[ScheduleRecord, bool]:
        """Create or replace; the schedule and whether it is new.

        Raises NotFoundError (queue), InvalidInputError, and ConflictError for an id that somebody else has.
        """
        return await self._save(schedule_id, wanted, text, principal, replaces=True)

    async def _save(
        self, schedule_id: str, wanted: ScheduleInput, text: TemplateText, principal: str, *, replaces: bool
    ) -> tuple[ScheduleRecord, bool]:
        await get_caller().prepare((wanted.queue,))
        self._check(wanted)
        present = await self._records.get_schedule(schedule_id)
        if present is not None:
            await get_caller().prepare((present.queue,))
        now = datetime.now(UTC)
        rule = self._build_rule(present, wanted, now)
        record = ScheduleRecord(
            id=schedule_id,
            queue=wanted.queue,
            task=wanted.task,
            spec_json=build_spec_json(build_spec(rule, wanted, text, principal)),
            paused=not wanted.enabled,
            next_at=compute_next_tick(rule, now) if wanted.enabled else None,
            created_at=now,
            updated_at=now,
        )
        # Asked in the transaction, not before it: nobody replaces a schedule that they do not see.
        created = await self._records.put_schedule(record, lambda queue: replaces and get_caller().sees(queue))
        if created is None:
            raise ConflictError(f"The id {schedule_id!r} is taken: choose another one, or replace your own with PUT.")
        return await self.get(schedule_id), created

    async def delete(self, schedule_id: str) -> None:
        """Delete it; what it submitted stays. Raises NotFoundError."""
        if not get_caller().sees_all:
            await self.get(schedule_id)
        if not await self._records.delete_schedule(schedule_id):
            raise NotFoundError(f"There is no schedule {schedule_id[:128]!r}.")

    def _check(self, wanted: ScheduleInput) -> None:
        queue = find_queue(self._directory, wanted.queue)
        errors = validate_rule(wanted.model_dump(include={"cron", "interval_seconds", "time_zone", "catch_up"}))
        if errors:
            raise InvalidInputError("The input is not valid.", errors)
        check_abilities(queue, wanted.timeout_seconds)
        if wanted.callback_url is not None:
            check_callback(self._callbacks, wanted.callback_url)
        if self._directory.knows_task(wanted.queue, wanted.task) is False:
            raise build_unknown_task_error(wanted.queue, wanted.task, [*queue.catalog], "#/task")

    def _build_rule(self, present: ScheduleRecord | None, wanted: ScheduleInput, now: datetime) -> ScheduleRule:
        """The rule; an interval that stays the same keeps the moment that it counts from."""
        rule = ScheduleRule(
            cron=wanted.cron,
            interval_seconds=wanted.interval_seconds,
            time_zone=wanted.time_zone,
            catch_up=wanted.catch_up,
            anchor=now,
        )
        if present is None:
            return rule
        try:
            before = parse_spec(present.spec_json).rule
        except (ValueError, TypeError, KeyError):
            return rule
        return replace(rule, anchor=before.anchor) if before.interval_seconds == rule.interval_seconds else rule


def build_spec(rule: ScheduleRule, wanted: ScheduleInput, text: TemplateText, principal: str) -> ScheduleSpec:
    """What the record keeps of the input. Pure."""
    retry = wanted.retry
    return ScheduleSpec(
        rule=rule,
        args_json=text.args,
        kwargs_json=text.kwargs,
        metadata_json=text.metadata,
        labels=build_labels(wanted.metadata),
        priority=wanted.priority,
        retry=RetryPolicy(**retry.model_dump()) if retry else None,
        timeout_seconds=wanted.timeout_seconds,
        ttl_seconds=wanted.ttl_seconds,
        callback_url=wanted.callback_url,
        principal=principal,
    )
