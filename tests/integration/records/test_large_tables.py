"""Pages of a large table: no listing reads it from end to end."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event
from tests.support.databases import PostgreSQL
from tests.support.many_tasks import fill_tasks

from taskfleet_api.records import QueueSample, Records, open_records
from taskfleet_api.records.model import TaskFilter
from taskfleet_core.states import TaskState

COUNT = 100_000
NOW = datetime.now(UTC)
QUEUES, INTERVALS, STEP = 300, 90, timedelta(seconds=10)
FILTERS = {
    "all": TaskFilter(),
    "queue": TaskFilter(queue="queue-7"),
    "queue and state": TaskFilter(queue="queue-0", states=frozenset({TaskState.FAILED})),
    "states": TaskFilter(states=frozenset({TaskState.FAILED, TaskState.QUEUED})),
    "task": TaskFilter(task="app.task_3"),
    "label": TaskFilter(labels=(("tenant", "tenant-5"),)),
    "some queues": TaskFilter(only_queues=("queue-1", "queue-2")),
    "a range of time": TaskFilter(created_after=NOW - timedelta(hours=2), created_before=NOW - timedelta(hours=1)),
    "nothing": TaskFilter(queue="no such queue"),
}


@pytest.fixture(scope="module")
def filled_url(postgresql: PostgreSQL) -> Iterator[str]:
    """A database of its own, since filling takes seconds."""
    url = postgresql.create_database()

    async def migrate() -> None:
        records = await open_records(url, timeout_seconds=30)
        await records.migrate()
        for number in range(INTERVALS):
            at = NOW + number * STEP
            samples = [QueueSample(queue=f"queue-{index}", at=at, ready=index, waits={}) for index in range(QUEUES)]
            await records.save_interval(10, at, samples)
        await records.close()

    asyncio.run(migrate())
    postgresql.execute("ANALYZE queue_samples; ANALYZE sampled_intervals", url)
    fill_tasks(postgresql, url, COUNT)
    yield url
    postgresql.drop_database(url)


@pytest.fixture
async def large(filled_url: str) -> AsyncIterator[Records]:
    """Its records."""
    opened = await open_records(filled_url, pool_size=2)
    yield opened
    await opened.close()


class Explainer:
    """Notes every SELECT that touches tasks, to have PostgreSQL explain it afterwards."""

    def __init__(self, records: Records) -> None:
        self._engine = records.database.read
        self._seen: list[tuple[str, Any]] = []
        event.listen(self._engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            self._seen.append((statement, parameters))

    async def explain(self) -> list[dict[str, Any]]:
        """All nodes of all plans, after running them."""
        seen, self._seen = self._seen, []
        nodes: list[dict[str, Any]] = []
        async with self._engine.connect() as connection:
            for statement, parameters in seen:
                text = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
                answer = (await connection.exec_driver_sql(text, tuple(parameters))).scalar_one()
                plan = json.loads(answer) if isinstance(answer, str) else answer
                _collect(plan[0]["Plan"], nodes)
        return nodes


def _collect(plan: dict[str, Any], nodes: list[dict[str, Any]]) -> None:
    nodes.append(plan)
    for child in plan.get("Plans", ()):
        _collect(child, nodes)


@pytest.mark.parametrize("name", FILTERS)
async def test_a_page_is_read_from_an_index(large: Records, name: str) -> None:
    explainer = Explainer(large)
    first = await large.list_tasks(FILTERS[name], None, 50)
    if first.next_cursor:
        await large.list_tasks(FILTERS[name], first.next_cursor, 50)
    nodes = await explainer.explain()
    assert nodes
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
    read = sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in nodes)
    assert read < COUNT / 4, read


HISTORIES: dict[str, tuple[list[str], int]] = {
    "of a queue": (["queue-7"], INTERVALS),
    "of a page of queues": ([f"queue-{number}" for number in range(50)], INTERVALS),
    "of many, to be rolled up": ([f"queue-{number}" for number in range(50)], 6),
}


@pytest.mark.parametrize("name", HISTORIES)
async def test_a_history_is_read_from_an_index(large: Records, name: str) -> None:
    queues, intervals = HISTORIES[name]
    explainer = Explainer(large)
    found = await large.fetch_samples(queues, 10, NOW, NOW + intervals * STEP)
    await large.fetch_samples(queues, 10, NOW, NOW + intervals * STEP, lean=True)
    assert len(found) == len(queues) * intervals
    nodes = await explainer.explain()
    assert nodes
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]
    scans = [node for node in nodes if "Relation Name" in node]
    read = sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans)
    assert read <= 2 * max(len(found), QUEUES * 6)  # a few whole intervals may be read


async def test_the_oldest_tasks_are_found_by_one_look_for_each_queue(large: Records, filled_url: str) -> None:
    explainer = Explainer(large)
    await large.fetch_oldest([f"queue-{number}" for number in range(50)])
    nodes = await explainer.explain()
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "tasks"]
    of_tasks = [node for node in nodes if node.get("Relation Name") == "tasks"]
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in of_tasks) <= 50
