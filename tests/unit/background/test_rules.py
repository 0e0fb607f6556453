"""The pure decisions of the background services: lost tasks, orphans, quiet queues, back-off, events, queue specs."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.support.events import build_record, build_state_event

from taskfleet_api.background.dead_letters import build_dead_event
from taskfleet_api.background.declaring import build_queue_spec
from taskfleet_api.background.directory import KnownQueue
from taskfleet_api.background.monitor import _History, is_empty
from taskfleet_api.background.reclaiming import decide_orphans
from taskfleet_api.background.sweeping import select_lost
from taskfleet_api.brokers import DeadLetter, DeadReason, QueueSpec
from taskfleet_api.live import LiveState
from taskfleet_core.backoff import decide_backoff_seconds
from taskfleet_core.events import TaskEvent
from taskfleet_core.states import TaskState, position
from taskfleet_core.statistics import QueueStatistics

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
QUIET_SECONDS = 30.0


def live(state: TaskState, attempt: int = 1, **more: Any) -> LiveState:
    return LiveState(build_state_event(state, attempt=attempt, **more), None)


@pytest.mark.parametrize(
    ("state", "in_hand", "live_state", "is_lost"),
    [
        pytest.param(TaskState.QUEUED, False, None, True, id="nobody knows it"),
        pytest.param(TaskState.RUNNING, False, live(TaskState.RUNNING), True, id="its worker is gone"),
        pytest.param(TaskState.RUNNING, True, None, False, id="a heartbeat names it"),
        pytest.param(TaskState.RUNNING, False, live(TaskState.SUCCEEDED), False, id="finished, not yet recorded"),
        pytest.param(TaskState.QUEUED, False, live(TaskState.QUEUED, attempt=2), False, id="a newer attempt exists"),
        pytest.param(
            TaskState.RETRYING,
            False,
            live(TaskState.RETRYING, retry_at=NOW.timestamp() + 3600),
            False,
            id="Celery runs it again in an hour",
        ),
        pytest.param(
            TaskState.RETRYING,
            False,
            live(TaskState.RETRYING, retry_at=NOW.timestamp() - 60),
            True,
            id="Celery's retry is overdue",
        ),
        pytest.param(TaskState.SUCCEEDED, False, None, False, id="final"),
    ],
)
def test_what_counts_as_lost(state: TaskState, in_hand: bool, live_state: LiveState | None, is_lost: bool) -> None:
    record = build_record(state)
    task_id = str(record.id)
    states = {task_id: live_state} if live_state else {}
    lost = select_lost([record], {task_id} if in_hand else set(), states, NOW, QUIET_SECONDS)
    assert lost == ([record.id] if is_lost else [])


def test_an_orphan_is_suspected_from_the_first_look_that_misses_it_without_a_break() -> None:
    held = {"tag-1": "a", "tag-2": "b", "tag-3": "c"}
    assert decide_orphans(held, {"b"}, {"tag-1": 5.0, "tag-2": 5.0}, 9.0) == {"tag-1": 5.0, "tag-3": 9.0}


def figures(
    ready: int = 0,
    unacknowledged: int | None = 0,
    published: int | None = None,
    consumers: int | None = 1,
    at: float = 0,
) -> QueueStatistics:
    return QueueStatistics(ready, unacknowledged, published, None, consumers, at)


@pytest.mark.parametrize(
    ("statistics", "expected"),
    [
        pytest.param(figures(), True, id="nothing"),
        pytest.param(figures(ready=1), False, id="ready"),
        pytest.param(figures(unacknowledged=1), False, id="in hand"),
        pytest.param(figures(unacknowledged=None, consumers=1), False, id="unknown in hand, with consumers"),
        pytest.param(figures(unacknowledged=None, consumers=0), True, id="unknown in hand, nobody consumes"),
        pytest.param(figures(unacknowledged=None, consumers=None), False, id="all unknown"),
    ],
)
def test_when_a_broker_has_nothing_of_a_queue(statistics: QueueStatistics, expected: bool) -> None:
    assert is_empty(statistics) is expected


def test_quiet_starts_again_after_traffic_and_after_the_unknown() -> None:
    history = _History()
    history.add(figures(published=1), 0.0)
    history.add(figures(published=1), 5.0)
    assert history.quiet_since == 0.0
    history.add(figures(published=2), 6.0)
    assert history.quiet_since is None, "a message came and went between two looks"
    history.add(figures(published=2), 7.0)
    history.add(None, 8.0)
    assert history.quiet_since is None, "unknown is not quiet"


def test_rates_come_from_counters_and_survive_their_restart() -> None:
    history = _History()
    history.add(figures(published=100, at=1.0), 1.0)
    history.add(figures(published=150, at=6.0), 6.0)
    assert history.rates() == (10.0, None)
    history.add(figures(published=3, at=7.0), 7.0)
    assert history.rates() == (None, None)
    history.add(figures(published=5, at=9.0), 9.0)
    assert history.rates() == (1.0, None)


@pytest.mark.parametrize(
    ("failures", "chance", "expected"),
    [(1, 0.0, 0.1), (1, 1.0, 0.2), (2, 1.0, 0.4), (3, 0.5, 0.6), (50, 1.0, 10.0), (5000, 1.0, 10.0)],
)
def test_back_off_doubles_up_to_its_bound(failures: int, chance: float, expected: float) -> None:
    assert decide_backoff_seconds(failures, 0.2, 10.0, chance) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        (DeadReason.DELIVERY_LIMIT, TaskState.DEAD),
        (DeadReason.EXPIRED, TaskState.EXPIRED),
        (DeadReason.REJECTED, TaskState.FAILED),
        (DeadReason.MAXLEN, TaskState.DEAD),
    ],
)
def test_a_dead_letter_ends_its_own_attempt(reason: DeadReason, state: TaskState) -> None:
    letter = DeadLetter(str(uuid4()), "t", "q", 3, reason, b"", {"retries": 1}, 1)
    event = build_dead_event(letter, NOW)
    assert (event["state"], event["attempt"]) == (state, 3)
    assert event["position"] == position(3, 0, state)
    assert ("error" in event) == (state is not TaskState.EXPIRED)


def test_a_queue_is_declared_by_its_registration() -> None:
    limits = {
        "deliveryLimit": 2,
        "deadLetter": False,
        "maxLength": 10,
        "messageTTLSeconds": 5,
        "maxTaskSeconds": 60,
    }
    registration: Any = {"queueName": "q", "limits": limits}
    known = KnownQueue("q", registration, False, {})
    assert build_queue_spec(known) == QueueSpec("q", 2, False, 10, 5, 360)
    assert build_queue_spec(replace(known, registration={"queueName": "q"})) == QueueSpec("q")  # type: ignore[arg-type]


def test_the_event_helper_builds_what_the_wire_carries() -> None:
    event: TaskEvent = build_state_event(TaskState.RUNNING)
    assert UUID(event["id"])
