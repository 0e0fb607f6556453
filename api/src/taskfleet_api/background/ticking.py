"""ScheduleTicker: submits the tasks of schedules that are due, each tick exactly once over all replicas."""

from datetime import datetime, timedelta

import structlog

from taskfleet_api.background.clock import Clock, read_clock
from taskfleet_api.background.directory import QueueDirectory
from taskfleet_api.background.dispatcher import Dispatcher
from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.background.schedules import ScheduleSpec, TickPlan, parse_spec, plan_ticks
from taskfleet_api.callbacks.policy import parse_target
from taskfleet_api.records import NewCallback, NewTask, Records, ScheduleRecord
from taskfleet_api.records.ids import build_task_id
from taskfleet_api.telemetry import counter
from taskfleet_core.errors import UnavailableError

__all__ = ["ScheduleTicker", "build_tick_task"]

log = structlog.get_logger()


def build_tick_task(schedule: ScheduleRecord, spec: ScheduleSpec, now: datetime) -> NewTask:
    """The task of one tick."""
    return NewTask(
        id=build_task_id(),
        queue=schedule.queue,
        task=schedule.task,
        created_at=now,
        args_json=spec.args_json,
        kwargs_json=spec.kwargs_json,
        metadata_json=spec.metadata_json,
        labels=spec.labels,
        priority=spec.priority,
        expires_at=now + timedelta(seconds=spec.ttl_seconds) if spec.ttl_seconds is not None else None,
        retry=spec.retry,
        timeout_seconds=spec.timeout_seconds,
        origin="schedule",
        principal=spec.principal,
        callback=NewCallback(url, parse_target(url).receiver) if (url := spec.callback_url) else None,
    )


class ScheduleTicker:
    """Any replica may run it: the database lets one of them have each tick."""

    def __init__(
        self,
        records: Records,
        dispatcher: Dispatcher,
        directory: QueueDirectory,
        options: BackgroundOptions,
        clock: Clock = read_clock,
    ) -> None:
        self._records = records
        self._dispatcher = dispatcher
        self._directory = directory
        self._options = options
        self._clock = clock

    async def step(self) -> float:
        """Run all due schedules; one that fails does not hold up the others."""
        due = await self._records.claim_ticks(self._clock(), self._options.schedule_batch)
        for schedule in due:
            try:
                await self._run(schedule)
            except UnavailableError:
                raise
            except Exception:
                log.exception("schedule_failed", schedule=schedule.id)
        return 0.0 if len(due) == self._options.schedule_batch else self._options.schedule_interval_seconds

    async def _run(self, schedule: ScheduleRecord) -> None:
        if schedule.next_at is None:
            return
        try:
            spec = parse_spec(schedule.spec_json)
        except (ValueError, TypeError, KeyError, AttributeError):
            log.exception("schedule_unreadable", schedule=schedule.id)
            await self._records.insert_tick_tasks(schedule.id, schedule.next_at, None, None)
            return
        now = self._clock()
        plan = plan_ticks(
            spec.rule,
            schedule.next_at,
            now,
            late_seconds=self._options.schedule_late_seconds,
            limit=self._options.schedule_catch_up_limit,
        )
        known = self._directory.get(schedule.queue)
        if known is not None and known.scale_only:
            log.error("schedule_refused", schedule=schedule.id, queue=schedule.queue)
            await self._skip(schedule, plan, now, "refused")
        elif not plan.ticks:
            await self._skip(schedule, plan, now, "skipped")
        else:
            await self._submit(schedule, spec, plan)

    async def _submit(self, schedule: ScheduleRecord, spec: ScheduleSpec, plan: TickPlan) -> None:
        if plan.skipped:
            log.warning("ticks_skipped", schedule=schedule.id, catch_up=spec.rule.catch_up)
            counter("taskfleet_schedule_ticks_total").labels("skipped").inc()
        for tick_at, next_at in zip(plan.ticks, (*plan.ticks[1:], plan.next_at), strict=True):
            task = build_tick_task(schedule, spec, self._clock())
            if not await self._records.insert_tick_tasks(schedule.id, tick_at, next_at, task):
                return  # another replica runs this schedule now
            self._dispatcher.offer([task])
            counter("taskfleet_schedule_ticks_total").labels("submitted").inc()
            log.info("schedule_ticked", schedule=schedule.id, task_id=str(task.id), tick_at=tick_at.isoformat())

    async def _skip(self, schedule: ScheduleRecord, plan: TickPlan, now: datetime, outcome: str) -> None:
        # No tick lies between now and the next one, so `now` covers every tick that is left out.
        if await self._records.insert_tick_tasks(schedule.id, now, plan.next_at, None):
            counter("taskfleet_schedule_ticks_total").labels(outcome).inc()
