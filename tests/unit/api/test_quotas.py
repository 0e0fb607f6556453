"""Quotas: so many unfinished tasks and no more, and room again as soon as some have ended."""

from typing import Any

import pytest
from tests.support.waiting import eventually
from tests.unit.api.conftest import RunningApp

from taskfleet_api.problems import QuotaExceededError
from taskfleet_api.tasks.quotas import FRESH_SECONDS, RECOUNT_SECONDS, Quotas
from taskfleet_core.errors import RecordsUnavailableError

TASK: dict[str, Any] = {"queue": "jobs", "task": "jobs.add"}


class Counted:
    """What the database says; the number of times that it was asked."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}
        self.asked = 0
        self.away = False

    async def count_unfinished(self, *, by_caller: bool) -> dict[tuple[str, str], int]:
        self.asked += 1
        if self.away:
            raise RecordsUnavailableError("away")
        return self.counts if by_caller else {(queue, ""): count for (queue, _), count in self.counts.items()}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def build_quotas(per_caller: int | None, per_queue: int | None) -> tuple[Quotas, Counted, Clock]:
    counted, clock = Counted(), Clock()
    return Quotas(counted, per_caller, per_queue, clock), counted, clock  # type: ignore[arg-type]


async def test_what_was_accepted_counts_at_once_and_what_has_ended_no_more() -> None:
    quotas, counted, clock = build_quotas(3, None)
    await quotas.admit("a", {"q": 2})
    with pytest.raises(QuotaExceededError, match="'a' has 2 unfinished"):
        await quotas.admit("a", {"q": 2})
    await quotas.admit("b", {"q": 3})
    counted.counts = {("q", "a"): 2, ("q", "b"): 3}
    clock.now += FRESH_SECONDS + 1
    await quotas.admit("a", {"q": 1})
    counted.counts = {("q", "a"): 1}
    clock.now += RECOUNT_SECONDS + 0.1
    await quotas.admit("a", {"q": 2})
    with pytest.raises(QuotaExceededError):
        await quotas.admit("a", {"q": 1})


async def test_queues_are_bound_over_all_callers_and_each_for_itself() -> None:
    quotas, _, _ = build_quotas(None, 5)
    await quotas.admit("a", {"x": 3, "y": 5})
    with pytest.raises(QuotaExceededError, match="'x'"):
        await quotas.admit("b", {"x": 3})
    await quotas.admit("b", {"x": 2})
    quotas.refund("b", {"x": 2})
    await quotas.admit("c", {"x": 2})


async def test_the_database_is_asked_seldom_and_its_absence_refuses_nobody() -> None:
    quotas, counted, clock = build_quotas(10, 10)
    for _ in range(100):
        clock.now += 0.01
        with pytest.raises(QuotaExceededError):
            await quotas.admit("a", {"q": 11})
    assert counted.asked <= 4
    counted.away = True
    clock.now += 60
    await quotas.admit("a", {"q": 1})


async def test_without_a_quota_nothing_is_asked() -> None:
    quotas, counted, _ = build_quotas(None, None)
    await quotas.admit("a", {"q": 10**6})
    assert counted.asked == 0


class TestOverHttp:
    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {"max_unfinished_per_queue": 2, "submit_rate_per_queue": 100}

    async def test_a_full_queue_answers_429_until_a_task_has_ended(self, running: RunningApp) -> None:
        client = running.client
        first = (await client.post("/api/v1/tasks", json=TASK | {"countdown_seconds": 60})).json()
        assert (await client.post("/api/v1/tasks:batch", json=[TASK, TASK])).status_code == 429
        assert (await client.post("/api/v1/tasks:batch", json=[TASK])).status_code == 202
        refused = await client.post("/api/v1/tasks", json=TASK)
        assert refused.status_code == 429
        assert refused.json()["type"].endswith("/quota-exceeded")
        assert int(refused.headers["retry-after"]) > 0
        assert (await client.delete(f"/api/v1/tasks/{first['id']}")).status_code == 200

        async def is_admitted() -> bool:
            return (await client.post("/api/v1/tasks", json=TASK)).status_code == 202

        await eventually(is_admitted)
