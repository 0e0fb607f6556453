"""When schedules tick, over daylight saving changes too, and which missed ticks run."""

from datetime import UTC, datetime, timedelta

import pytest

from taskfleet_api.background import ScheduleRule, ScheduleSpec, build_spec_json, compute_next_tick, parse_spec
from taskfleet_api.background.schedules import CatchUp, plan_ticks, validate_rule
from taskfleet_api.records import RetryPolicy

ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def cron(expression: str, zone: str = "UTC", catch_up: CatchUp = "last") -> ScheduleRule:
    return ScheduleRule(cron=expression, interval_seconds=None, time_zone=zone, catch_up=catch_up, anchor=ANCHOR)


def every(seconds: float, catch_up: CatchUp = "last") -> ScheduleRule:
    return ScheduleRule(cron=None, interval_seconds=seconds, catch_up=catch_up, anchor=ANCHOR)


@pytest.mark.parametrize(
    ("rule", "after", "expected"),
    [
        pytest.param(cron("*/5 * * * *"), "2026-03-01T10:02:30", "2026-03-01T10:05:00", id="cron"),
        pytest.param(cron("*/5 * * * *"), "2026-03-01T10:05:00", "2026-03-01T10:10:00", id="strictly later"),
        pytest.param(cron("*/10 * * * * *"), "2026-03-01T10:05:01", "2026-03-01T10:05:10", id="six fields: seconds"),
        pytest.param(cron("0 9 * * *", "Asia/Tokyo"), "2026-03-01T10:00:00", "2026-03-02T00:00:00", id="time zone"),
        pytest.param(
            cron("30 2 * * *", "Europe/Berlin"),
            "2026-03-28T12:00:00",
            "2026-03-29T01:00:00",
            id="a time that summer time skips fires right after the gap",
        ),
        pytest.param(
            cron("30 2 * * *", "Europe/Berlin"), "2026-03-29T01:00:00", "2026-03-30T00:30:00", id="and only once"
        ),
        pytest.param(
            cron("30 2 * * *", "Europe/Berlin"),
            "2026-10-24T12:00:00",
            "2026-10-25T00:30:00",
            id="a time that occurs twice fires in the first pass",
        ),
        pytest.param(
            cron("30 2 * * *", "Europe/Berlin"),
            "2026-10-25T00:30:00",
            "2026-10-26T01:30:00",
            id="and not in the second pass",
        ),
        pytest.param(
            cron("30 2 * * *", "Europe/Berlin"),
            "2026-10-25T01:10:00",
            "2026-10-26T01:30:00",
            id="asked within the second pass",
        ),
        pytest.param(
            cron("*/30 * * * *", "Europe/Berlin"),
            "2026-10-25T00:30:00",
            "2026-10-25T01:00:00",
            id="frequent jobs go on through the repeated hour",
        ),
        pytest.param(every(90), "2026-01-01T00:01:00", "2026-01-01T00:01:30", id="interval from the anchor"),
        pytest.param(every(90), "2026-01-01T00:01:30", "2026-01-01T00:03:00", id="interval: strictly later"),
        pytest.param(every(90), "2025-12-01T00:00:00", "2026-01-01T00:00:00", id="interval: the anchor is first"),
        pytest.param(every(0.1 * 30), "2026-01-01T00:00:08", "2026-01-01T00:00:09", id="interval: no drift"),
    ],
)
def test_next_tick(rule: ScheduleRule, after: str, expected: str) -> None:
    assert compute_next_tick(rule, at(after)) == at(expected)


@pytest.mark.parametrize(
    ("catch_up", "now", "ticks"),
    [
        pytest.param("last", "10:00:00.2", ["10:00"], id="on time"),
        pytest.param("skip", "10:00:30", ["10:00"], id="skip runs what is a little late"),
        pytest.param("skip", "10:04:00", ["10:04"], id="skip runs the one on time and forgets the others"),
        pytest.param("last", "10:04:30", ["10:04"], id="last runs only the newest"),
        pytest.param("all", "10:02:30", ["10:00", "10:01", "10:02"], id="all runs each, oldest first"),
        pytest.param("all", "10:09:30", ["10:05", "10:06", "10:07", "10:08", "10:09"], id="all is bounded"),
    ],
)
def test_catch_up_by_cron(catch_up: CatchUp, now: str, ticks: list[str]) -> None:
    plan = plan_ticks(cron("* * * * *", catch_up=catch_up), at("2026-05-01T10:00:00"), at(f"2026-05-01T{now}"), limit=5)
    assert [tick.strftime("%H:%M") for tick in plan.ticks] == ticks
    assert plan.next_at == at(f"2026-05-01T{now}").replace(second=0, microsecond=0) + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [("skip", []), ("last", ["2026-05-01T09:00:00"]), ("all", ["2026-05-01T08:00:00", "2026-05-01T09:00:00"])],
)
def test_catch_up_by_interval(catch_up: CatchUp, expected: list[str]) -> None:
    plan = plan_ticks(every(3600, catch_up), at("2026-05-01T08:00:00"), at("2026-05-01T09:30:00"), late_seconds=60)
    assert plan.ticks == tuple(at(text) for text in expected)
    assert plan.next_at == at("2026-05-01T10:00:00")


def test_a_long_absence_is_reported_and_costs_no_walk_through_all_of_it() -> None:
    plan = plan_ticks(every(1, "all"), at("2026-01-01T00:00:01"), at("2036-01-01T00:00:00"), limit=3)
    assert [tick.second for tick in plan.ticks] == [58, 59, 0]
    assert plan.skipped


def test_a_tick_of_the_repeated_hour_is_found_when_looked_for_within_its_second_pass() -> None:
    rule = cron("30 2 * * *", "Europe/Berlin", "all")
    plan = plan_ticks(rule, at("2026-10-24T00:30:00"), at("2026-10-25T01:10:00"))
    assert plan.ticks == (at("2026-10-24T00:30:00"), at("2026-10-25T00:30:00"))


def test_a_due_time_that_is_no_tick_of_the_rule_still_runs_once() -> None:
    plan = plan_ticks(cron("0 0 1 1 *"), at("2026-05-01T08:00:00"), at("2026-05-01T08:00:01"))
    assert plan.ticks == (at("2026-05-01T08:00:00"),)
    assert plan.next_at == at("2027-01-01T00:00:00")


def test_a_definition_survives_its_text() -> None:
    spec = ScheduleSpec(
        rule=cron("0 9 * * 1", "Europe/Berlin", "skip"),
        args_json='["ä"]',
        labels=(("team", "a"),),
        priority=3,
        retry=RetryPolicy(3),
        ttl_seconds=60,
    )
    assert parse_spec(build_spec_json(spec)) == spec


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"cron": "* * * * *"}, []),
        ({"interval_seconds": 5, "catch_up": "all", "time_zone": "Europe/Berlin"}, []),
        ({}, ["#/cron"]),
        ({"cron": "* * * * *", "interval_seconds": 5}, ["#/cron"]),
        ({"cron": "61 * * * *"}, ["#/cron"]),
        ({"cron": "* * *"}, ["#/cron"]),
        ({"cron": "0 0 31 2 *"}, ["#/cron"]),
        ({"cron": 7}, ["#/cron"]),
        ({"interval_seconds": 0.5}, ["#/interval_seconds"]),
        ({"interval_seconds": True}, ["#/interval_seconds"]),
        ({"interval_seconds": float("nan")}, ["#/interval_seconds"]),
        ({"cron": "* * * * *", "time_zone": "Mars/Phobos"}, ["#/time_zone"]),
        ({"cron": "* * * * *", "time_zone": "../../etc/passwd"}, ["#/time_zone"]),
        ({"cron": "* * * * *", "catch_up": "some"}, ["#/catch_up"]),
    ],
)
def test_a_wrong_rule_is_told_by_field(fields: dict[str, object], pointers: list[str]) -> None:
    assert [error.pointer for error in validate_rule(fields)] == pointers
