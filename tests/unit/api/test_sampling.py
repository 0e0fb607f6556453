"""Samples of queues: what is merged, what is left out, and what readers get back."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from msgspec import structs
from tests.support import queue_samples
from tests.support.queue_samples import AT

from taskfleet_api.background import QueueStatus
from taskfleet_api.background.history import build_sample
from taskfleet_api.background.tallies import Tallies, Tally
from taskfleet_api.queues.history import build_decisions, plan_span
from taskfleet_api.records import QueueSample
from taskfleet_api.records.sampling import (
    STEPS_SECONDS,
    fill_quiet,
    find_age,
    find_bucket,
    find_percentile,
    floor_to,
    is_quiet,
    merge_samples,
)
from taskfleet_core.scaling import DecisionReport

SECOND = timedelta(seconds=1)
BUSY = queue_samples.build_sample(queue="q")


def test_every_step_is_a_multiple_of_the_one_before() -> None:
    assert all(longer % shorter == 0 for shorter, longer in pairwise(STEPS_SECONDS))


def test_a_merged_sample_keeps_peaks_sums_counts_and_takes_the_last_level() -> None:
    later = structs.replace(
        BUSY, at=AT + 10 * SECOND, ready=9, running=0, desired=3, finished=5, waits={5: 1, 7: 1}, reason="more"
    )
    merged = merge_samples([BUSY, later], AT)
    assert (merged.ready, merged.running, merged.desired, merged.finished, merged.failed) == (9, 1.0, 3, 8, 2)
    assert merged.waits == {5: 3, 7: 1}
    assert merged.reason == "more"


def test_what_no_sample_knows_stays_unknown() -> None:
    unknown = QueueSample(queue="q", at=AT)
    merged = merge_samples([unknown, unknown], AT)
    assert (merged.ready, merged.running, merged.finished, merged.workers) == (None, None, None, None)
    assert merge_samples([unknown, BUSY], AT).ready == 4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, True, id="nothing was there"),
        pytest.param({"desired": None}, True, id="nobody decides"),
        pytest.param({"ready": None}, False, id="an unreadable depth is no empty queue"),
        pytest.param({"workers": None}, False, id="unreadable heartbeats are not zero workers"),
        pytest.param({"finished": None}, False, id="ends that nobody counted are not zero"),
        pytest.param({"workers": 1}, False, id="a worker that idles"),
        pytest.param({"reason": "to zero"}, False, id="a decision"),
    ],
)
def test_a_sample_is_left_out_only_when_nothing_was_there(changes: dict[str, Any], expected: bool) -> None:
    quiet = QueueSample(queue="q", at=AT, ready=0, running=0, desired=0, workers=0, finished=0, failed=0, waits={})
    assert is_quiet(structs.replace(quiet, **changes)) is expected


def test_what_was_left_out_comes_back_as_zero_and_what_nobody_saw_does_not() -> None:
    moments = [AT, AT + 10 * SECOND, AT + 30 * SECOND]
    filled = fill_quiet("q", [structs.replace(BUSY, at=moments[1])], moments)
    assert [(sample.at, sample.ready, sample.workers) for sample in filled] == [
        (moments[0], 0, 0),
        (moments[1], 4, 1),
        (moments[2], 0, 0),
    ]


@pytest.mark.parametrize("seconds", [0.02, 0.4, 3.0, 70.0, 4000.0, 200_000.0])
def test_percentiles_are_right_within_an_eighth(seconds: float) -> None:
    waits = {find_bucket(seconds / 50): 49, find_bucket(seconds): 49, find_bucket(seconds * 50): 2}
    assert find_percentile(waits, 0.95) == pytest.approx(seconds, rel=0.125)


def test_no_wait_has_no_percentile_and_a_huge_one_a_bucket() -> None:
    assert find_percentile({}, 0.5) is None
    assert find_percentile({find_bucket(1e12): 1}, 0.5) is not None
    assert find_bucket(0) == find_bucket(-1) == 0


def test_tallies_that_could_not_be_kept_count_later() -> None:
    tallies = Tallies()
    tallies.note_end("q", "succeeded")
    tallies.note_end("q", "dead")
    tallies.note_wait("q", 1.0)
    taken = tallies.take()
    assert tallies.take() == {}
    tallies.note_end("q", "failed")
    tallies.give_back([taken])
    (counted,) = tallies.take().values()
    assert (counted["finished"], counted["failed"], sum(counted["waits"].values())) == (3, 2, 1)


def build_report(replicas: int) -> DecisionReport:
    return {"at": AT.timestamp(), "replicas": replicas, "cause": "load", "reason": "why", "acting": True, "terms": {}}


@pytest.mark.parametrize(
    ("before", "replicas", "reason"),
    [
        pytest.param(1, 2, "why", id="more"),
        pytest.param(2, 2, None, id="the same"),
        pytest.param(None, 2, "why", id="not known what was"),
        pytest.param(None, 0, None, id="not known what was, and none"),
        pytest.param(2, 0, "why", id="to zero"),
    ],
)
def test_the_reason_is_kept_where_the_decision_changes(before: int | None, replicas: int, reason: str | None) -> None:
    sample = build_sample(AT, QueueStatus("q"), Tally(), build_report(replicas), before=before, oldest_since=None)
    assert (sample.desired, sample.reason) == (replicas, reason)


def test_an_empty_queue_has_no_oldest_task() -> None:
    since = AT - 50 * SECOND
    empty = build_sample(AT, QueueStatus("q", ready=0), None, None, before=None, oldest_since=since)
    full = build_sample(AT, QueueStatus("q", ready=1), None, None, before=None, oldest_since=since)
    assert (empty.oldest_wait_seconds, full.oldest_wait_seconds) == (None, 60.0)
    assert (full.finished, full.waits) == (None, None)


def test_decisions_are_marked_where_another_number_is_wanted() -> None:
    levels = [(None, None), (1, "first seen"), (1, None), (3, "more"), (None, None), (3, None), (0, None)]
    samples = [
        QueueSample(queue="q", at=AT + number * 10 * SECOND, desired=desired, reason=reason)
        for number, (desired, reason) in enumerate(levels)
    ]
    marks = build_decisions(samples, 10)
    assert [(mark["before"], mark["replicas"], mark["reason"]) for mark in marks] == [(1, 3, "more"), (3, 0, None)]
    assert marks[0]["at"] == (AT + 40 * SECOND).isoformat()


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (timedelta(minutes=15), 10),
        (timedelta(hours=1), 10),
        (timedelta(hours=6), 60),
        (timedelta(hours=24), 600),
        (timedelta(days=9), 600),
    ],
)
def test_the_step_is_the_shortest_that_is_kept_so_long(age: timedelta, expected: int) -> None:
    span = plan_span(AT, AT - age, None, None, 2.0)
    assert span.step_seconds == expected
    assert floor_to(span.since, expected) == span.since


@pytest.mark.parametrize("until", [AT, None, datetime(1, 1, 1, tzinfo=UTC)])
def test_a_span_that_ends_before_it_begins_is_empty(until: datetime | None) -> None:
    for since in (AT, AT + SECOND, datetime(9999, 1, 1, tzinfo=UTC)):
        span = plan_span(AT, since, until, None, 2.0)
        assert span.since >= span.until


def test_of_a_long_span_the_newest_intervals_are_read() -> None:
    for since in (AT - timedelta(days=1), datetime(1, 1, 1, tzinfo=UTC)):
        span = plan_span(AT, since, None, 10, 2.0, 100)
        assert (span.since, span.until) == (AT - 1000 * SECOND, AT)


def test_short_intervals_are_kept_for_hours_and_the_longest_as_long_as_is_set() -> None:
    ages = [find_age(step, 2.0) for step in STEPS_SECONDS]
    assert ages == sorted(ages)
    assert ages[-1] == timedelta(days=2)
    assert {find_age(step, 0) for step in STEPS_SECONDS} == {timedelta(0)}
