"""Which bounds the schedules of a TaskQueue give at a moment. Pure: the moment is an input."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

from taskfleet_core.scaling import ScalingSpec
from taskfleet_core.taskqueue import Schedule

__all__ = ["apply_schedules", "find_active_schedule"]


def find_active_schedule(schedules: Sequence[Schedule], now: datetime) -> Schedule | None:
    """The schedule that fired last up to `now` (with a time zone); of two at the same time the later in the list."""
    active: Schedule | None = None
    latest: datetime | None = None
    for schedule in schedules:
        try:
            # A firing at this very moment counts; the iterator begins before the moment that it is given.
            local = now.astimezone(ZoneInfo(schedule.time_zone)) + timedelta(microseconds=1)
            fired: datetime | None = next(CronSim(schedule.cron, local, reverse=True), None)
        except StopIteration:
            fired = None
        if fired is not None and (latest is None or fired >= latest):
            active, latest = schedule, fired
    return active


def apply_schedules(spec: ScalingSpec, schedules: Sequence[Schedule], now: datetime) -> ScalingSpec:
    """The spec with the bounds of the schedule that fired last; a lone bound moves the other one with it."""
    active = find_active_schedule(schedules, now)
    if active is None:
        return spec
    low = spec.min_replicas if active.min_replicas is None else active.min_replicas
    high = spec.max_replicas if active.max_replicas is None else active.max_replicas
    if low > high and active.max_replicas is None:
        high = low
    return replace(spec, min_replicas=min(low, high), max_replicas=high)
