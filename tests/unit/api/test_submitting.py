"""Submissions on the database alone: accepted without broker and Redis, refused with a reason, repeated safely."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from tests.support.events import build_registration
from tests.unit.api.conftest import RunningApp, on_shared

from taskfleet_api.app import create_app

TASK: dict[str, Any] = {"queue": "jobs", "task": "jobs.add", "args": [1, 2]}
URL = "/api/v1/tasks"


async def test_a_task_is_accepted_and_can_be_read(running: RunningApp) -> None:
    answer = await running.client.post(URL, json=TASK | {"metadata": {"order": 7}})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{URL}/{answer.json()['id']}"
    assert answer.json()["state"] == "pending"
    record = (await running.client.get(answer.headers["location"])).json()
    assert record["args"] == [1, 2]
    assert record["metadata"] == {"order": 7}
    assert record["created_at"].startswith(answer.json()["created_at"].rstrip("Z"))
    assert [attempt["attempt"] for attempt in record["attempts"]] == [1]


async def test_both_ways_give_the_same_answer(running: RunningApp) -> None:
    fast = await running.client.post(URL, json=TASK)
    ordinary = await running.client.post(URL, json=TASK, headers={"Origin": "https://example.org"})
    assert fast.status_code == ordinary.status_code == 202
    assert fast.headers["content-type"] == ordinary.headers["content-type"]
    assert set(fast.headers) == set(ordinary.headers)
    same = {"state", "queue", "task", "attempt"}
    assert {name: fast.json()[name] for name in same} == {name: ordinary.json()[name] for name in same}
    assert list(fast.json()) == list(ordinary.json())


@on_shared
@pytest.mark.parametrize("headers", [{}, {"Origin": "https://example.org"}], ids=["fast", "ordinary"])
async def test_an_unknown_queue_is_404_with_the_ones_that_exist(shared: RunningApp, headers: dict[str, str]) -> None:
    answer = await shared.client.post(URL, json=TASK | {"queue": "job"}, headers=headers)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["queues"] == ["jobs"]
    assert answer.json()["instance"] == URL


async def test_a_task_that_the_last_workers_did_not_know_is_accepted_while_none_lives(running: RunningApp) -> None:
    """They may be older than a deployment. The next replica knows their names from the database, without Redis."""
    await running.app.state.services.records.save_catalog("jobs", {"jobs.add": {}, "jobs.sleep": {}})
    replica = create_app(running.app.state.settings)
    transport = httpx.ASGITransport(app=replica)
    async with (
        replica.router.lifespan_context(replica),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        assert (await client.post(URL, json=TASK)).status_code == 202
        assert (await client.post(URL, json=TASK | {"task": "jobs.new"})).status_code == 202
        names = (await client.get("/api/v1/queues/jobs/tasks")).json()["items"]
    assert [item["name"] for item in names] == ["jobs.add", "jobs.sleep"]


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://example.org"}], ids=["fast", "ordinary"])
async def test_a_repeated_request_gets_the_first_answer(running: RunningApp, headers: dict[str, str]) -> None:
    headers = headers | {"Idempotency-Key": "order-1"}
    body = TASK | {"countdown_seconds": 1000}
    first, again = [await running.client.post(URL, json=body, headers=headers) for _ in range(2)]
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert first.json()["state"] == "scheduled"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other = await running.client.post(URL, json=TASK, headers=headers)
    assert other.status_code == 409


async def test_requests_at_the_same_time_with_one_key_make_one_task(running: RunningApp) -> None:
    headers = {"Idempotency-Key": "order-2"}
    answers = await asyncio.gather(*(running.client.post(URL, json=TASK, headers=headers) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


@on_shared
@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"queue": NaN}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[]", "application/json", 422),
        (b"{}", "application/json", 422),
        (b"queue=jobs", "application/x-www-form-urlencoded", 415),
        (b"{}", "", 415),
        (b" " * 2_000_000, "application/json", 413),
        (b'{"queue":"jobs","task":"a\\u0000b"}', "application/json", 422),
        (b'{"queue":"jobs","task":"a\x00b"}', "application/json", 400),
        (b'{"queue":"jobs\\u0000","task":"t"}', "application/json", 422),
        (b'{"queue":"jobs","task":"t","args":["\\ud800"]}', "application/json", 422),
        (b'{"queue":"jobs","task":"t","args":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "application/json", 422),
        (b"[" * 500_000, "application/json", 422),
        (b'{"queue":"jobs","task":"t","args":[' + b"9" * 5_000 + b"]}", "application/json", 422),
        (b'{"queue":"jobs","task":"t","priority":' + b"9" * 4_000 + b"}", "application/json", 422),
        (b'{"queue":"jobs","task":"t","args":[1e999]}', "application/json", 422),
        (b'{"queue":"jobs","task":"t","timeout_seconds":61}', "application/json", 422),
    ],
)
async def test_hostile_bodies_get_a_problem(shared: RunningApp, content: bytes, content_type: str, status: int) -> None:
    for headers in ({}, {"Origin": "https://example.org"}):
        answer = await shared.client.post(URL, content=content, headers={"Content-Type": content_type} | headers)
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


async def test_integers_of_any_useful_size_are_kept(running: RunningApp) -> None:
    answer = await running.client.post(URL, json=TASK | {"args": [10**4000]})
    assert (await running.client.get(answer.headers["location"])).json()["args"] == [10**4000]


async def test_a_wait_without_redis_ends_in_time_with_202(running: RunningApp) -> None:
    answer = await running.client.post(URL, json=TASK, headers={"Prefer": "wait=0.3"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=0.3"


@pytest.mark.parametrize("overrides", [{"max_backlog": 3}])
async def test_a_full_backlog_is_503_until_there_is_room(running: RunningApp) -> None:
    answers = [await running.client.post(URL, json=TASK) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 503, 503]
    assert int(answers[-1].headers["retry-after"]) > 0
    batch = await running.client.post("/api/v1/tasks:batch", json=[TASK, TASK])
    assert batch.status_code == 503


async def test_a_queue_elsewhere_is_scaled_only(running: RunningApp) -> None:
    await running.app.state.services.background.directory.register(build_registration("far", "another"))
    assert (await running.client.post(URL, json=TASK | {"queue": "far"})).status_code == 409


@pytest.mark.parametrize("pool", ["threads", "solo"])
async def test_a_time_limit_is_refused_where_the_pool_has_none(running: RunningApp, pool: str) -> None:
    await running.add_queue("other", pool=pool)
    answer = await running.client.post(URL, json=TASK | {"queue": "other", "timeout_seconds": 5})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/timeout_seconds"


async def test_a_valid_traceparent_is_carried(running: RunningApp) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for headers, carried in ({"traceparent": trace}, trace), ({"traceparent": "nonsense"}, None):
        answer = await running.client.post(URL, json=TASK, headers=headers)
        assert (await running.client.get(answer.headers["location"])).json()["traceparent"] == carried


async def test_what_is_accepted_survives_a_restart(running: RunningApp) -> None:
    answer = await running.client.post(URL, json=TASK)
    record = await running.app.state.services.records.get(uuid.UUID(answer.json()["id"]))
    assert record.state.value == "pending"
