"""The rules by which events become a record, without a database: any order and duplication ends the same."""

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.integration.records.samples import NOW, build_event, new_id

from taskfleet_api.records import RetryPolicy
from taskfleet_api.records.merging import Attempt, Known, Merged, Observation, build_retry_delay, merge, parse_event
from taskfleet_api.records.texts import encode_json
from taskfleet_core.states import TaskState, position

TASK_ID = new_id()
LATER = NOW + timedelta(days=1)  # when events are applied
POLICY = RetryPolicy(max_attempts=3, backoff_seconds=2.0, jitter=True)


def build_known() -> Known:
    current = Attempt(1, position(1, 0, TaskState.QUEUED), "queued", source="task")
    return Known(TASK_ID, current, NOW, "api", POLICY, cancel_requested=False, needs_args=False)


@st.composite
def build_life(draw: st.DrawFn) -> list[Any]:
    """The events of one task from its first start to its end: Celery retries, redeliveries, platform attempts."""
    events: list[Any] = []
    clock = 0.0

    def add(state: str, **fields: Any) -> None:
        nonlocal clock
        clock += draw(st.floats(0.001, 5.0))
        worker = draw(st.sampled_from(["worker-1", "worker-2"]))
        events.append(build_event(TASK_ID, state, clock, attempt=attempt, retries=retries, worker=worker, **fields))

    last = draw(st.integers(1, 3))
    for attempt in range(1, last + 1):
        final_retries = draw(st.integers(0, 2))
        for retries in range(final_retries + 1):
            for run in range(draw(st.integers(1, 2))):
                add("running", redelivered=run > 0)
            for count in range(draw(st.integers(0, 2))):
                add("running", kind="progress", progress={"done": count}, progress_count=10 * retries + count + 1)
            if retries < final_retries:
                add("retrying", error={"type": "E", "message": "again"})
        if attempt < last:
            add("retrying", ends_attempt=True, error={"type": "E", "message": "platform"}, runtime_seconds=0.5)
    state = draw(st.sampled_from(["succeeded", "failed", "cancelled", "dead"]))
    add(state, runtime_seconds=draw(st.floats(0.0, 3.0)), result={"n": last} if state == "succeeded" else None)
    return events


def apply(events: list[Any], batches: int = 1) -> list[Attempt]:
    """The attempts after the events came in that many batches, oldest first."""
    known = build_known()
    size = -(-len(events) // batches)
    for start in range(0, len(events), size):
        seen = [item for event in events[start : start + size] if (item := parse_event(event))]
        known = _store(known, merge(known, seen, LATER))
    return [known.archived[number] for number in sorted(known.archived)] + [known.current]


def _store(known: Known, merged: Merged) -> Known:
    """What the database would give back for the next batch."""
    archived = dict(known.archived)
    if merged.archive:
        archived[known.current.attempt] = known.current
    archived.update({view.attempt: view for view in merged.earlier})
    for view in (*archived.values(), merged.current):
        view.moved = view.progressed = view.changed = False
        view.source = "task" if view is merged.current else "archive"
    return replace(known, current=merged.current, archived=archived)


@given(build_life(), st.randoms(use_true_random=False), st.integers(1, 5))
def test_any_order_and_duplication_ends_in_the_same_record(
    life: list[Any], chance: random.Random, batches: int
) -> None:
    expected = apply(life)
    mixed = [*life, *chance.sample(life, chance.randint(0, len(life)))]
    chance.shuffle(mixed)
    assert apply(mixed, batches) == expected
    assert expected[-1].state in {"succeeded", "failed", "cancelled", "dead"}


@given(build_life(), st.randoms(use_true_random=False))
def test_a_record_never_moves_backwards(life: list[Any], chance: random.Random) -> None:
    chance.shuffle(life)
    known, highest = build_known(), 0
    for event in life:
        seen = parse_event(event)
        assert seen is not None
        known = _store(known, merge(known, [seen], LATER))
        assert known.current.position >= highest
        highest = known.current.position


def test_the_first_final_state_of_an_attempt_stays() -> None:
    attempts = apply([build_event(TASK_ID, "cancelled"), build_event(TASK_ID, "succeeded", 2.0)])
    assert attempts[-1].state == "cancelled"


def test_a_failure_before_the_last_attempt_starts_the_next_after_the_back_off() -> None:
    event = build_event(TASK_ID, "retrying", ends_attempt=True)
    first, second = apply([event])
    assert (first.state, first.finished_at) == ("retrying", NOW + timedelta(seconds=1))
    assert (second.attempt, second.state, second.position) == (2, "retrying", position(2, 0, TaskState.SCHEDULED))
    assert second.due_at == NOW + timedelta(seconds=1) + build_retry_delay(POLICY, TASK_ID, 1)


def test_a_worker_whose_clock_is_ahead_delays_no_retry() -> None:
    seen = parse_event(build_event(TASK_ID, "retrying", 3600.0, ends_attempt=True))
    assert seen is not None
    assert merge(build_known(), [seen], NOW).current.due_at == NOW + build_retry_delay(POLICY, TASK_ID, 1)


def test_the_last_attempt_fails_even_if_a_worker_asks_for_another() -> None:
    (*_, last) = apply([build_event(TASK_ID, "retrying", ends_attempt=True, attempt=3)])
    assert (last.attempt, last.state, last.due_at) == (3, "failed", None)


def test_a_task_that_shall_be_cancelled_is_not_tried_again() -> None:
    known = replace(build_known(), cancel_requested=True)
    seen = parse_event(build_event(TASK_ID, "retrying", ends_attempt=True))
    assert seen is not None
    assert merge(known, [seen], LATER).current.state == "cancelled"


@given(st.integers(1, 10**6), st.booleans())
def test_the_back_off_doubles_up_to_its_limit_and_jitter_only_shortens_it(attempt: int, jitter: bool) -> None:
    policy = RetryPolicy(10**7, backoff_seconds=1.5, max_backoff_seconds=60.0, jitter=jitter)
    full = min(1.5 * 2.0 ** min(attempt - 1, 60), 60.0)
    delay = build_retry_delay(policy, TASK_ID, attempt).total_seconds()
    assert 0 <= delay <= full
    assert jitter or abs(delay - full) < 1e-6


def test_short_tasks_get_their_start_from_their_run_time() -> None:
    (only,) = apply([build_event(TASK_ID, "succeeded", 5.0, runtime_seconds=2.0)])
    assert only.started_at == NOW + timedelta(seconds=3)


@given(
    st.dictionaries(
        st.sampled_from(
            ["id", "queue", "task", "state", "attempt", "retries", "at", "worker", "runtime_seconds", "progress_count"]
        ),
        st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.lists(st.integers()), st.booleans()),
    )
)
def test_no_event_breaks_the_recorder(wrong: dict[str, Any]) -> None:
    seen = parse_event({**build_event(TASK_ID, "running"), **wrong})
    assert seen is None or isinstance(seen, Observation)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


@given(json_values)
def test_every_value_has_a_json_text_without_nul(value: object) -> None:
    text = encode_json(value)
    assert "\0" not in text
    text.encode()


def test_deep_nesting_is_recorded_as_such() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "nested too deeply" in encode_json(deep)
    while deep:  # taken apart here: the interpreter would do it by recursion
        deep = deep[0]
