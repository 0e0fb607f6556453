"""Rate limits of submissions: bursts pass, floods wait, others are not touched, and replicas keep them together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.support.shared_rates import MemoryRates
from tests.support.waiting import eventually
from tests.unit.api.conftest import RunningApp

from taskfleet_api.problems import RateLimitedError
from taskfleet_api.tasks.buckets import BURST_SECONDS, MAX_BUCKETS, Buckets
from taskfleet_api.tasks.rates import RateLimits


class Clock:
    """Moves when told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shared(clock: Clock) -> MemoryRates:
    return MemoryRates(clock)


def build(
    shared: MemoryRates, clock: Clock, per_caller: float | None, per_queue: float | None = None, replicas: int = 1
) -> RateLimits:
    return RateLimits(per_caller, per_queue, shared.settle, lambda: replicas, clock)


async def count_admitted(admit: Callable[[], Awaitable[None]], most: int = 1000) -> int:
    for done in range(most):
        try:
            await admit()
        except RateLimitedError:
            return done
    return most


@asynccontextmanager
async def telling(*limits: RateLimits) -> AsyncIterator[None]:
    """The background work of each replica."""
    tasks = [asyncio.create_task(each.run()) for each in limits]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_burst_passes_then_the_rate_holds(shared: MemoryRates, clock: Clock) -> None:
    limits = build(shared, clock, 5)
    assert await count_admitted(lambda: limits.admit("a", {"q": 1})) == 5 * BURST_SECONDS
    with pytest.raises(RateLimitedError) as caught:
        await limits.admit("a", {"q": 1})
    assert caught.value.retry_after_seconds == 1
    clock.now += 2
    assert await count_admitted(lambda: limits.admit("a", {"q": 1})) == 10
    clock.now += 1000
    assert await count_admitted(lambda: limits.admit("a", {"q": 1})) == 5 * BURST_SECONDS


async def test_a_large_batch_passes_once_and_is_paid_for_afterwards(shared: MemoryRates, clock: Clock) -> None:
    limits = build(shared, clock, 10)
    await limits.admit("a", {"q": 1100})
    with pytest.raises(RateLimitedError) as caught:
        await limits.admit("a", {"q": 1})
    assert caught.value.retry_after_seconds == pytest.approx(101, abs=1)
    clock.now += caught.value.retry_after_seconds
    await limits.admit("a", {"q": 1})


async def test_what_was_refused_for_another_reason_is_given_back(shared: MemoryRates, clock: Clock) -> None:
    limits = build(shared, clock, 1, 1)
    for _ in range(100):
        await limits.admit("a", {"q": 5})
        limits.refund("a", {"q": 5})
    assert await count_admitted(lambda: limits.admit("a", {"q": 1})) == BURST_SECONDS


async def test_callers_and_queues_are_counted_apart(shared: MemoryRates, clock: Clock) -> None:
    limits = build(shared, clock, None, 1)
    await limits.admit("a", {"busy": 100, "other": 1})
    with pytest.raises(RateLimitedError, match="busy"):
        await limits.admit("b", {"busy": 1})
    await limits.admit("b", {"other": 1})
    callers = build(shared, clock, 1)
    await callers.admit("a", {"q": 100})
    with pytest.raises(RateLimitedError, match="'a'"):
        await callers.admit("a", {"q": 1})
    await callers.admit("b", {"q": 1})


async def test_what_is_refused_costs_nothing(shared: MemoryRates, clock: Clock) -> None:
    limits = build(shared, clock, 1, 1)
    await limits.admit("a", {"x": 100})
    for _ in range(50):
        with pytest.raises(RateLimitedError):
            await limits.admit("b", {"y": 1, "x": 1})
        clock.now += 0.2
    assert await count_admitted(lambda: limits.admit("b", {"y": 1})) == BURST_SECONDS


async def test_a_flood_of_refused_requests_asks_the_store_ten_times_a_second(shared: MemoryRates, clock: Clock) -> None:
    limits = build(shared, clock, 1)
    await count_admitted(lambda: limits.admit("a", {"q": 1}))
    before = shared.calls
    for _ in range(1000):
        clock.now += 0.001
        await count_admitted(lambda: limits.admit("a", {"q": 1}), 5)
    assert shared.calls - before <= 12


def test_what_is_remembered_is_bounded(clock: Clock) -> None:
    buckets = Buckets("caller", 1, lambda: 1, clock)
    for number in range(MAX_BUCKETS + 10):
        buckets.take(str(number), 1)
    assert len(buckets) == MAX_BUCKETS
    assert len(buckets.begin()) == MAX_BUCKETS


async def test_without_limits_nothing_is_told(shared: MemoryRates, clock: Clock) -> None:
    limits = build(shared, clock, None)
    async with telling(limits):
        await limits.admit("a", {"q": 1})
        await asyncio.sleep(0)
    assert shared.calls == 0


class TestSeveralReplicas:
    """Two replicas, one shared bucket."""

    async def test_a_burst_over_both_is_one_burst(self, shared: MemoryRates, clock: Clock) -> None:
        one, two = (build(shared, clock, 5, replicas=2) for _ in range(2))
        admitted = 0
        for _ in range(100):
            for each in (one, two):
                admitted += await count_admitted(lambda each=each: each.admit("a", {"q": 1}), 5)
                await each.tell()
        assert 5 * BURST_SECONDS <= admitted <= 5 * BURST_SECONDS + 5

    async def test_the_rate_is_that_of_both_together(self, shared: MemoryRates, clock: Clock) -> None:
        """Also where one of them gets nearly all: what the other does not use is not lost."""
        one, two = (build(shared, clock, 10, replicas=2) for _ in range(2))
        await one.admit("a", {"q": 100})
        admitted = 0
        for moment in range(1200):
            clock.now += 0.05
            await one.tell()
            await two.tell()
            admitted += await count_admitted(lambda: one.admit("a", {"q": 1}), 5)
            if moment % 10 == 0:
                admitted += await count_admitted(lambda: two.admit("a", {"q": 1}), 1)
        assert admitted == pytest.approx(600, abs=15)

    async def test_what_one_spent_the_other_knows(self, shared: MemoryRates, clock: Clock) -> None:
        """A replica that never heard of a bucket guesses at most one second's part."""
        one, two = (build(shared, clock, 10, replicas=2) for _ in range(2))
        async with telling(one):
            await one.admit("a", {"q": 1000})
            await eventually(lambda: shared.calls > 0)
        assert await count_admitted(lambda: two.admit("a", {"q": 1})) <= 5

    async def test_without_the_store_each_keeps_its_share(self, shared: MemoryRates, clock: Clock) -> None:
        limits = build(shared, clock, 10, replicas=2)
        shared.away = True
        await count_admitted(lambda: limits.admit("a", {"q": 1}))
        admitted = 0
        for _ in range(600):
            clock.now += 0.1
            admitted += await count_admitted(lambda: limits.admit("a", {"q": 1}), 100)
        assert admitted == pytest.approx(300, abs=10), "half of the rate for each of two"
        assert shared.calls <= 62, "nobody waits for a store that is away more than once a second"

    async def test_a_rate_below_the_share_works_without_the_store(self, shared: MemoryRates, clock: Clock) -> None:
        limits = build(shared, clock, 0.1, replicas=4)
        shared.away = True
        admitted = 0
        for _ in range(400):
            clock.now += 1
            admitted += await count_admitted(lambda: limits.admit("a", {"q": 1}), 5)
        assert admitted == pytest.approx(10, abs=1)

    async def test_an_outage_leaves_no_debt(self, shared: MemoryRates, clock: Clock) -> None:
        """What was spent within the share was paid for by the time that went by."""
        limits = build(shared, clock, 10, replicas=2)
        shared.away = True
        for _ in range(600):
            clock.now += 0.1
            await count_admitted(lambda: limits.admit("a", {"q": 1}), 100)
        shared.away = False
        clock.now += 20
        assert await count_admitted(lambda: limits.admit("a", {"q": 1})) == pytest.approx(100, abs=5)

    async def test_what_the_store_did_not_hear_is_told_again(self, shared: MemoryRates, clock: Clock) -> None:
        one, two = (build(shared, clock, 1, replicas=2) for _ in range(2))
        shared.away = True
        await one.admit("a", {"q": 500})
        with pytest.raises(RateLimitedError):
            await one.admit("a", {"q": 1})
        shared.away = False
        clock.now += 2
        with pytest.raises(RateLimitedError):
            await one.admit("a", {"q": 1})
        await count_admitted(lambda: two.admit("a", {"q": 1}))
        with pytest.raises(RateLimitedError) as caught:
            await two.admit("a", {"q": 1})
        assert caught.value.retry_after_seconds > 400


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
