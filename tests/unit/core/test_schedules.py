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
        pytest.param(datetime(2026, 3, 2, 7), (4, 10), id="at work to the second"),
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


NIGHT = [
    Schedule(cron="30 2 * * *", time_zone="Europe/Berlin", min_replicas=7),
    Schedule(cron="30 4 * * *", time_zone="Europe/Berlin", min_replicas=1),
]


@pytest.mark.parametrize(
    ("moment", "minimum"),
    [
        pytest.param("2026-03-29T00:59:00+00:00", 1, id="spring, a minute before the hour that is left out"),
        pytest.param("2026-03-29T01:31:00+00:00", 7, id="spring, half past two does not exist: it fired all the same"),
        pytest.param("2026-03-29T02:31:00+00:00", 1, id="spring, half past four is an hour sooner by UTC"),
        pytest.param("2026-10-25T00:29:00+00:00", 1, id="autumn, before the first half past two"),
        pytest.param("2026-10-25T00:31:00+00:00", 7, id="autumn, after the first half past two"),
        pytest.param("2026-10-25T01:31:00+00:00", 7, id="autumn, after the second half past two"),
        pytest.param("2026-10-25T03:29:00+00:00", 7, id="autumn, half past four is an hour later by UTC"),
        pytest.param("2026-10-25T03:31:00+00:00", 1, id="autumn, after half past four"),
    ],
)
def test_clock_changes_skip_no_schedule(moment: str, minimum: int) -> None:
    spec = apply_schedules(ScalingSpec(max_replicas=10), NIGHT, datetime.fromisoformat(moment))
    assert spec.min_replicas == minimum


def test_schedules_of_several_zones_are_compared_by_the_moment() -> None:
    both = [
        Schedule(cron="0 9 * * *", time_zone="America/New_York", min_replicas=2),
        Schedule(cron="0 12 * * *", time_zone="Europe/Berlin", min_replicas=5),
    ]
    noon_in_berlin = datetime(2026, 3, 16, 11, 30, tzinfo=ZoneInfo("UTC"))  # 12:30 there, 07:30 in New York
    nine_in_new_york = datetime(2026, 3, 16, 13, 30, tzinfo=ZoneInfo("UTC"))
    assert apply_schedules(ScalingSpec(), both, noon_in_berlin).min_replicas == 5
    assert apply_schedules(ScalingSpec(), both, nine_in_new_york).min_replicas == 2
