"""Rate limits of submissions: bursts pass, floods wait, and others are not touched."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.api.conftest import RunningApp

from taskfleet_api.problems import RateLimitedError
from taskfleet_api.tasks.rates import BURST_SECONDS, MAX_BUCKETS, RateLimits


class Clock:
    """Moves when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def count_admitted(admit: Callable[[], None], most: int) -> int:
    for done in range(most):
        try:
            admit()
        except RateLimitedError:
            return done
    return most


def test_a_burst_passes_then_the_rate_holds(clock: Clock) -> None:
    limits = RateLimits(5, None, clock)
    assert count_admitted(lambda: limits.admit("a", {"q": 1}), 1000) == 5 * BURST_SECONDS
    with pytest.raises(RateLimitedError) as caught:
        limits.admit("a", {"q": 1})
    assert caught.value.retry_after_seconds == 1
    clock.now += 2
    assert count_admitted(lambda: limits.admit("a", {"q": 1}), 1000) == 10
    clock.now += 1000
    assert count_admitted(lambda: limits.admit("a", {"q": 1}), 1000) == 5 * BURST_SECONDS


def test_a_large_batch_passes_once_and_is_paid_for_afterwards(clock: Clock) -> None:
    limits = RateLimits(10, None, clock)
    limits.admit("a", {"q": 1100})
    with pytest.raises(RateLimitedError) as caught:
        limits.admit("a", {"q": 1})
    assert caught.value.retry_after_seconds == pytest.approx(101, abs=1)
    clock.now += caught.value.retry_after_seconds
    limits.admit("a", {"q": 1})


def test_what_was_refused_for_another_reason_is_given_back(clock: Clock) -> None:
    limits = RateLimits(1, 1, clock)
    for _ in range(100):
        limits.admit("a", {"q": 5})
        limits.refund("a", {"q": 5})
    limits.refund("a", {"q": 5000})
    assert count_admitted(lambda: limits.admit("a", {"q": 1}), 1000) == BURST_SECONDS


def test_callers_and_queues_are_counted_apart(clock: Clock) -> None:
    limits = RateLimits(None, 1, clock)
    limits.admit("a", {"busy": 100, "other": 1})
    with pytest.raises(RateLimitedError, match="busy"):
        limits.admit("b", {"busy": 1})
    limits.admit("b", {"other": 1})
    callers = RateLimits(1, None, clock)
    callers.admit("a", {"q": 100})
    with pytest.raises(RateLimitedError, match="'a'"):
        callers.admit("a", {"q": 1})
    callers.admit("b", {"q": 1})


def test_what_is_refused_costs_nothing(clock: Clock) -> None:
    limits = RateLimits(1, 1, clock)
    limits.admit("a", {"x": 100})
    before = limits._callers and dict(limits._callers._levels)
    for _ in range(50):
        with pytest.raises(RateLimitedError):
            limits.admit("b", {"y": 1, "x": 1})
    assert limits._callers
    assert dict(limits._callers._levels) == before


def test_what_is_remembered_is_bounded(clock: Clock) -> None:
    limits = RateLimits(1, None, clock)
    for number in range(MAX_BUCKETS + 10):
        limits.admit(str(number), {"q": 1})
    assert limits._callers
    assert len(limits._callers._levels) == MAX_BUCKETS


class TestOverHttp:
    """Both ways of a submission, and batches."""

    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {"submit_rate_per_queue": 0.1, "cors_origins": "https://console.example"}

    async def test_a_flood_gets_429_and_reading_goes_on(self, running: RunningApp) -> None:
        client, task = running.client, {"queue": "jobs", "task": "jobs.add"}
        await running.add_queue("other")
        assert (await client.post("/api/v1/tasks", json=task)).status_code == 202
        for headers in ({}, {"Origin": "https://console.example"}):
            answer = await client.post("/api/v1/tasks", json=task, headers=headers)
            assert answer.status_code == 429
            assert answer.json()["type"].endswith("/rate-limited")
            assert 1 <= int(answer.headers["retry-after"]) <= 11
        assert (await client.post("/api/v1/tasks:batch", json=[task])).status_code == 429
        assert (await client.post("/api/v1/tasks", json=task | {"queue": "other"})).status_code == 202
        assert len((await client.get("/api/v1/tasks")).json()["items"]) == 2


class TestBesideTheBacklog:
    """Nobody publishes here: what is accepted stays in the backlog."""

    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {"submit_rate_per_caller": 1, "max_backlog": 2}

    async def test_a_full_backlog_costs_nothing_of_the_rate(self, running: RunningApp) -> None:
        """Thirty refusals would use up the burst of ten and be answered with 429."""
        task = {"queue": "jobs", "task": "jobs.add"}
        answers = [(await running.client.post("/api/v1/tasks", json=task)).status_code for _ in range(32)]
        answers += [(await running.client.post("/api/v1/tasks:batch", json=[task])).status_code for _ in range(5)]
        assert answers == [202, 202] + [503] * 35
