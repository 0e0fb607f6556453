"""Bounds by schedule: the one that fired last holds."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from taskfleet_core.scaling import ScalingSpec
from taskfleet_core.schedules import apply_schedules
from taskfleet_core.taskqueue import Schedule

BERLIN = ZoneInfo("Europe/Berlin")
OFFICE = [
    Schedule(cron="0 7 * * 1-5", time_zone="Europe/Berlin", min_replicas=4),
    Schedule(cron="0 19 * * 1-5", time_zone="Europe/Berlin", min_replicas=0, max_replicas=2),
]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        pytest.param(datetime(2026, 3, 2, 6, 59), (0, 2), id="before work: since Friday evening"),
        pytest.param(datetime(2026, 3, 2, 7, 1), (4, 10), id="at work"),
        pytest.param(datetime(2026, 3, 2, 19, 1), (0, 2), id="after work"),
        pytest.param(datetime(2026, 3, 30, 7, 1), (4, 10), id="at work in summer time"),
    ],
)
def test_last_fired_schedule_holds(moment: datetime, expected: tuple[int, int]) -> None:
    spec = apply_schedules(ScalingSpec(max_replicas=10), OFFICE, moment.replace(tzinfo=BERLIN))
    assert (spec.min_replicas, spec.max_replicas) == expected


def test_minimum_above_the_queues_maximum_raises_it() -> None:
    raised = [Schedule(cron="* * * * *", min_replicas=9)]
    spec = apply_schedules(ScalingSpec(max_replicas=3), raised, datetime(2026, 3, 2, tzinfo=BERLIN))
    assert (spec.min_replicas, spec.max_replicas) == (9, 9)


def test_without_schedules_nothing_changes() -> None:
    assert apply_schedules(ScalingSpec(), [], datetime(2026, 3, 2, tzinfo=BERLIN)) == ScalingSpec()
