"""Listings that are followed: one reader for all, whole pages where rows could be missing, and slow readers let go."""

import asyncio
import contextlib
import json
from typing import Any

import pytest
from sqlalchemy import event
from tests.support.waiting import eventually
from tests.unit.api.conftest import RunningApp

from taskfleet_api.access import Caller, KeyScope, acting_as
from taskfleet_api.records import TaskFilter
from taskfleet_api.tasks import watching
from taskfleet_api.tasks.streaming import COMMENT
from taskfleet_api.tasks.watching import HEAD_ROWS, MAX_WAITING_EVENTS, Follower, Listings
from taskfleet_core.errors import OverloadedError

URL = "/api/v1/tasks"
TASK: dict[str, Any] = {"queue": "jobs", "task": "jobs.add"}
LIMIT_SECONDS = 15.0


async def submit(running: RunningApp, count: int = 1, **members: Any) -> list[str]:
    answer = await running.client.post(f"{URL}:batch", json=[TASK | members] * count)
    assert answer.status_code == 202, answer.text
    return [item["id"] for item in answer.json()["items"]]


async def take(follower: Follower) -> tuple[str, str, list[str]]:
    """Kind, id and tasks of the next event."""
    text = await follower.next(LIMIT_SECONDS)
    assert text is not None
    lines = dict(line.split(": ", 1) for line in text.decode().strip().split("\n"))
    return lines["event"], lines["id"], [item["id"] for item in json.loads(lines["data"])["items"]]


async def test_new_and_changed_tasks_are_told_to_all_by_one_reader(running: RunningApp) -> None:
    listings: Listings = running.app.state.services.listings
    wanted = TaskFilter(queue="jobs", labels=(("case", "one"),))
    (first,) = await submit(running, metadata={"case": "one"}, countdown_seconds=900)
    asked: list[str] = []
    engine = running.app.state.services.records.database.read.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    async with listings.follow(wanted) as one, listings.follow(wanted) as other, listings.follow(TaskFilter()) as third:
        assert (await take(one))[0::2] == (await take(other))[0::2] == ("page", [first])
        assert listings.count == 2
        await take(third)
        begin = len([text for text in asked if "task_labels" in text])
        (second,) = await submit(running, metadata={"case": "one"}, countdown_seconds=900)
        await submit(running, metadata={"case": "two"}, countdown_seconds=900)
        assert (await take(one))[0::2] == (await take(other))[0::2] == ("tasks", [second])
        await running.client.delete(f"{URL}/{first}")
        assert (await take(one))[0::2] == (await take(other))[0::2] == ("tasks", [first])
        looks = len([text for text in asked if "task_labels" in text]) - begin
        assert looks <= 8  # once a second, not once for each of the two readers and each change
    assert listings.count == 0


async def test_a_listing_that_changed_wholly_is_told_wholly(running: RunningApp) -> None:
    listings: Listings = running.app.state.services.listings
    await submit(running, 3, countdown_seconds=900)
    async with listings.follow(TaskFilter()) as follower:
        assert len((await take(follower))[2]) == 3
        await submit(running, HEAD_ROWS, countdown_seconds=900)
        kind, _, ids = await take(follower)
        assert (kind, len(ids)) == ("page", HEAD_ROWS)


async def test_who_comes_back_with_the_last_id_gets_only_what_is_new(running: RunningApp) -> None:
    listings: Listings = running.app.state.services.listings
    await submit(running, countdown_seconds=900)
    async with listings.follow(TaskFilter()) as stays:
        _, version, _ = await take(stays)
        async with listings.follow(TaskFilter(), version) as back, listings.follow(TaskFilter(), "old") as late:
            assert (await take(late))[0] == "page"
            (new,) = await submit(running, countdown_seconds=900)
            assert (await take(back))[0::2] == ("tasks", [new])


async def test_a_reader_that_does_not_keep_up_is_let_go() -> None:
    follower = Follower()
    for number in range(MAX_WAITING_EVENTS + 50):
        follower.push(str(number).encode())
    taken = [await follower.next(1.0) for _ in range(MAX_WAITING_EVENTS + 1)]
    assert taken == [str(number).encode() for number in range(MAX_WAITING_EVENTS)] + [None]
    assert follower.is_over
    assert await Follower().next(0.01) == COMMENT


async def test_without_the_database_the_stream_ends_so_that_its_reader_looks_elsewhere(running: RunningApp) -> None:
    services = running.app.state.services

    def refuse(*_: Any) -> None:
        raise OSError("the disk is gone")

    async with services.listings.follow(TaskFilter()) as follower:
        await take(follower)
        event.listen(services.records.database.read.sync_engine, "before_cursor_execute", refuse)
        assert await follower.next(LIMIT_SECONDS) is None
    assert services.listings.count == 0


async def test_nobody_looks_when_nobody_follows(running: RunningApp) -> None:
    listings: Listings = running.app.state.services.listings
    async with listings.follow(TaskFilter()) as follower:
        await take(follower)
        assert [task for task in asyncio.all_tasks() if task.get_name() == "listing"]

    async def is_idle() -> bool:
        return not [task for task in asyncio.all_tasks() if task.get_name() == "listing"]

    assert await eventually(is_idle)


@pytest.mark.parametrize("params", [{"state": "gone"}, {"metadata": "x"}, {"queue": "a\x00b"}])
async def test_odd_filters_are_refused_before_the_stream(running: RunningApp, params: dict[str, str]) -> None:
    answer = await running.client.get(f"{URL}:stream", params=params)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith(f"#/query/{next(iter(params))}")


async def test_one_caller_does_not_use_up_the_listings_of_all(
    running: RunningApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "MAX_LISTINGS", 4)
    listings: Listings = running.app.state.services.listings
    one, other = (Caller(f"key:{name}", frozenset({KeyScope.READ})) for name in ("one", "other"))
    async with contextlib.AsyncExitStack() as held:
        with acting_as(one):
            for name in ("a", "b"):
                await held.enter_async_context(listings.follow(TaskFilter(task=name)))
            await held.enter_async_context(listings.follow(TaskFilter(task="a")))
            with pytest.raises(OverloadedError, match="half"):
                await held.enter_async_context(listings.follow(TaskFilter(task="c")))
        with acting_as(other):
            await held.enter_async_context(listings.follow(TaskFilter(task="c")))
    assert listings.count == 0
