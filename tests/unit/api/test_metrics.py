"""What `/metrics` shows before anything happened, and that refusals are counted on every way in."""

from typing import Any

import pytest
from tests.unit.api.conftest import RunningApp, on_shared

from taskfleet_api.tasks.refusals import count_refusal
from taskfleet_api.telemetry import METRICS, REGISTRY
from taskfleet_core.errors import TaskfleetError

URL = "/api/v1/tasks"
REASONS = METRICS["taskfleet_api_refused_total"].values


def refused() -> dict[str, float]:
    return {
        reason: REGISTRY.get_sample_value("taskfleet_api_refused_total", {"reason": reason}) or 0.0
        for reason in REASONS
    }


async def test_what_has_not_happened_is_a_zero_for_every_queue(running: RunningApp) -> None:
    """Otherwise the first dead task would be no increase to Prometheus."""
    await running.add_queue("fresh")
    text = (await running.client.get("/metrics")).text
    assert 'taskfleet_tasks_finished_total{queue="fresh",state="dead"} 0.0' in text
    for name in (
        "taskfleet_sweeper_tasks_total{",
        "taskfleet_schedule_ticks_total{",
        "taskfleet_retention_deleted_total ",
    ):
        assert f"\n{name}" in text
    assert "\nprocess_cpu_seconds_total" in text


async def test_what_is_unknown_is_no_zero(running: RunningApp) -> None:
    """Neither the broker nor Redis answers here."""
    before = REGISTRY.get_sample_value("taskfleet_recorder_lag_seconds")  # of a test before, in the same process
    await running.add_queue("fresh")
    text = (await running.client.get("/metrics")).text
    assert 'taskfleet_queue_ready{queue="fresh"}' not in text
    assert REGISTRY.get_sample_value("taskfleet_recorder_lag_seconds") == before


@on_shared
@pytest.mark.parametrize("origin", [{}, {"Origin": "http://x"}], ids=["short way", "ordinary way"])
@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        (URL, {"queue": "none", "task": "t"}, "not_found"),
        (URL, {"queue": "jobs", "task": "t", "priority": 99}, "invalid"),
        (URL, {"queue": "jobs"}, "invalid"),
        (f"{URL}:batch", [{"queue": "none", "task": "t"}], "not_found"),
        (f"{URL}:batch", {}, "invalid"),
    ],
)
async def test_each_refusal_is_counted_once(
    shared: RunningApp, path: str, body: Any, reason: str, origin: dict[str, str]
) -> None:
    before = refused()
    assert (await shared.client.post(path, json=body, headers=origin)).status_code >= 400
    after = refused()
    assert {name: after[name] - before[name] for name in REASONS if after[name] != before[name]} == {reason: 1}


def test_a_failure_inside_is_no_refusal() -> None:
    before = refused()
    count_refusal(TaskfleetError("bug"))
    assert refused() == before
