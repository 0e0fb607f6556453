"""Batches: each item has its own answer; atomic ones are all or nothing."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.unit.api.conftest import RunningApp, build_settings, on_shared

from taskfleet_api.tasks.batches import BatchHeaders, parse_batch

URL = "/api/v1/tasks:batch"
TASK: dict[str, Any] = {"queue": "jobs", "task": "jobs.add"}
NDJSON = {"Content-Type": "application/x-ndjson"}


async def count_tasks(client: httpx.AsyncClient) -> int:
    return len((await client.get("/api/v1/tasks", params={"limit": 500})).json()["items"])


async def test_every_item_is_answered_in_order(running: RunningApp) -> None:
    batch = [TASK, TASK | {"queue": "nowhere"}, TASK | {"priority": 11}, 5, TASK | {"eta": "2030-01-01T00:00:00Z"}]
    answer = await running.client.post(URL, json=batch)
    assert answer.status_code == 200
    body = answer.json()
    assert [item["status"] for item in body["items"]] == [202, 404, 422, 422, 202]
    assert (body["accepted"], body["refused"]) == (2, 3)
    assert [item["state"] for item in body["items"] if item["status"] == 202] == ["pending", "scheduled"]
    assert body["items"][2]["problem"]["errors"][0]["pointer"] == "#/priority"
    assert await count_tasks(running.client) == 2


async def test_lines_are_taken_one_by_one(running: RunningApp) -> None:
    content = json.dumps(TASK).encode() + b"\r\n\n{broken\n" + json.dumps(TASK).encode()
    answer = await running.client.post(URL, content=content, headers=NDJSON)
    assert [item["status"] for item in answer.json()["items"]] == [202, 400, 202]


async def test_an_atomic_batch_with_one_bad_item_accepts_nothing(running: RunningApp) -> None:
    answer = await running.client.post(URL, json=[TASK, TASK | {"retry": {}}], params={"atomic": "true"})
    assert answer.status_code == 422
    assert "#/1/retry/max_attempts" in [error["pointer"] for error in answer.json()["errors"]]
    assert await count_tasks(running.client) == 0


async def test_a_good_atomic_batch_is_accepted(running: RunningApp) -> None:
    answer = await running.client.post(URL, json=[TASK] * 300, params={"atomic": "true"})
    assert answer.status_code == 202
    assert len({item["id"] for item in answer.json()["items"]}) == 300


async def test_a_repeated_batch_gets_the_first_answer(running: RunningApp) -> None:
    headers = {"Idempotency-Key": "batch-1"}
    first, again = [await running.client.post(URL, json=[TASK] * 3, headers=headers) for _ in range(2)]
    assert [item["id"] for item in first.json()["items"]] == [item["id"] for item in again.json()["items"]]
    assert again.headers["idempotency-replayed"] == "true"
    other = await running.client.post(URL, json=[TASK] * 4, headers=headers)
    assert other.status_code == 409
    assert await count_tasks(running.client) == 3


async def test_items_may_have_their_own_keys(running: RunningApp) -> None:
    first = await running.client.post(URL, json=[TASK | {"idempotency_key": "a"}, TASK])
    again = await running.client.post(URL, json=[TASK | {"idempotency_key": "a"}, TASK])
    assert first.json()["items"][0]["id"] == again.json()["items"][0]["id"]
    assert again.json()["items"][0]["replayed"] is True
    assert first.json()["items"][1]["id"] != again.json()["items"][1]["id"]
    other = await running.client.post(URL, json=[TASK | {"idempotency_key": "a", "args": [1]}, TASK])
    assert [item["status"] for item in other.json()["items"]] == [409, 202]


@on_shared
@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"[]", {}, 422),
        (b"", NDJSON, 422),
        (b"{}", {}, 422),
        (b"[1", {}, 400),
        (b"[" * 100_000, {}, 422),
        (b"[" + b"1," * 10_000 + b"1]", {}, 413),
        (b"[5]", {}, 422),
        (b'[{"queue": "x", "task": "t"}]', {}, 404),
        (b"[]", {"Content-Type": "text/plain"}, 415),
    ],
)
async def test_bodies_that_are_no_batch(shared: RunningApp, content: bytes, headers: Any, status: int) -> None:
    answer = await shared.client.post(URL, content=content, headers={"Content-Type": "application/json"} | headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("overrides", [{"max_batch_items": 2, "max_batch_bytes": 4000, "max_item_bytes": 1024}])
async def test_the_limits_are_settings(running: RunningApp) -> None:
    assert (await running.client.post(URL, json=[TASK] * 3)).status_code == 413
    assert (await running.client.post(URL, json=[TASK | {"args": ["x" * 5000]}])).status_code == 413
    large = await running.client.post(URL, json=[TASK, TASK | {"args": ["x" * 1500]}])
    assert [item["status"] for item in large.json()["items"]] == [202, 413]


async def test_others_run_while_a_batch_of_slow_items_is_read(tmp_path: Path) -> None:
    item = json.dumps(TASK).encode()[:-1] + b', "args": [' + b",".join([b"[" * 60 + b"]" * 60] * 1000) + b"]}"
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    others = asyncio.create_task(count_turns())
    parsed = await parse_batch([item] * 10, BatchHeaders("somebody"), b"", build_settings(tmp_path))
    others.cancel()
    assert len(parsed) == 10
    assert turns >= 5
