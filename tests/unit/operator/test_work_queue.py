"""The work queue: one worker per key, nothing twice, nothing lost, pauses after failures."""

import asyncio

import pytest
from tests.support.waiting import eventually

from taskfleet_core.errors import ConflictError
from taskfleet_operator.work_queue import WorkQueue


class Handler:
    """Records what runs; `hold` keeps runs from ending, `fail` makes them fail."""

    def __init__(self):
        self.started, self.running, self.most = [], set(), 0
        self.release = asyncio.Event()
        self.release.set()
        self.error, self.later = None, None

    async def __call__(self, key):
        assert key not in self.running, "two workers on one key"
        self.running.add(key)
        self.most = max(self.most, len(self.running))
        self.started.append(key)
        await self.release.wait()
        self.running.discard(key)
        if self.error is not None:
            raise self.error
        return self.later


@pytest.fixture
async def handler():
    return Handler()


@pytest.fixture
async def queue(handler):
    work = WorkQueue(handler, workers=3)
    await work.start()
    yield work
    await work.stop()


async def test_waiting_key_is_handled_once(queue, handler):
    handler.release.clear()
    for key in ("a", "b", "c"):
        queue.add(key)
    await eventually(lambda: handler.most == 3)
    for _ in range(5):
        queue.add("d")
    assert queue.depth == 1
    handler.release.set()
    await eventually(lambda: handler.started.count("d") == 1 and not handler.running)


async def test_namespaces_take_turns(queue, handler):
    """One with hundreds of keys delays another's one by no more than what is being handled."""
    handler.release.clear()
    for number in range(300):
        queue.add(f"crowd/{number}")
    await eventually(lambda: handler.most == 3)
    for key in ("small/a", "small/b", "tiny/a"):
        queue.add(key)
    handler.release.set()
    await eventually(lambda: not queue.depth and not handler.running)
    assert handler.started.index("small/a") < 8
    assert handler.started.index("tiny/a") < 8
    assert handler.started.index("small/b") < 11
    crowd = [key for key in handler.started if key.startswith("crowd/")]
    assert crowd == [f"crowd/{number}" for number in range(300)]


async def test_key_added_while_it_runs_runs_once_more(queue, handler):
    handler.release.clear()
    queue.add("a")
    await eventually(lambda: handler.running == {"a"})
    for _ in range(5):
        queue.add("a")
    handler.release.set()
    await eventually(lambda: handler.started == ["a", "a"] and not handler.running)


async def test_failed_key_comes_again_by_itself(queue, handler, monkeypatch):
    monkeypatch.setattr("taskfleet_operator.work_queue.BACKOFF_SECONDS", (0.02, 30.0))
    handler.error = RuntimeError("no")
    queue.add("a")
    await eventually(lambda: len(handler.started) >= 3, 20)


async def test_failure_pauses_though_its_own_writes_asked_for_more(queue, handler, monkeypatch):
    monkeypatch.setattr("taskfleet_operator.work_queue.BACKOFF_SECONDS", (1000.0, 1000.0))
    handler.error = RuntimeError("no")
    handler.release.clear()
    queue.add("a")
    await eventually(lambda: handler.running == {"a"})
    queue.add("a")
    handler.release.set()
    queue.add("b")
    await eventually(lambda: handler.started == ["a", "b"] and not handler.running)
    handler.error = None
    queue.add("a")  # news end the pause
    await eventually(lambda: handler.started == ["a", "b", "a"])


async def test_conflict_is_looked_at_again_soon(queue, handler, monkeypatch):
    monkeypatch.setattr("taskfleet_operator.work_queue.BACKOFF_SECONDS", (1000.0, 1000.0))
    handler.error = ConflictError("somebody was faster")
    queue.add("a")
    await eventually(lambda: len(handler.started) >= 4, 20)


async def test_later_is_sooner_when_something_comes(queue, handler):
    handler.later = 1000.0
    queue.add("a")
    await eventually(lambda: handler.started == ["a"] and not handler.running)
    queue.add("a")
    await eventually(lambda: handler.started == ["a", "a"])


class Polite(Handler):
    """Gives way in the middle of each run."""

    def __init__(self):
        super().__init__()
        self.queue, self.ended = None, []

    async def __call__(self, key):
        await super().__call__(key)
        await self.queue.give_way()
        self.ended.append(key)


@pytest.fixture
async def polite():
    handler = Polite()
    handler.queue = WorkQueue(handler, workers=2)
    await handler.queue.start()
    yield handler
    await handler.queue.stop()


async def test_second_part_of_runs_waits_for_first_parts(polite):
    polite.release.clear()
    for number in range(20):
        polite.queue.add(f"space/{number}")
    ended_before_last_began = []
    polite.queue.add("space/last")

    polite.release.set()
    while "space/last" not in polite.started:
        ended_before_last_began = list(polite.ended)
        await asyncio.sleep(0)
    assert not ended_before_last_began
    await eventually(lambda: len(polite.ended) == 21)
    assert polite.most <= 2, "more first parts at a time than workers"


async def test_giving_way_ends_although_keys_go_on_coming(polite, monkeypatch):
    monkeypatch.setattr("taskfleet_operator.work_queue.GIVE_WAY_SECONDS", 0.05)
    polite.release.clear()
    for number in range(4):
        polite.queue.add(f"space/{number}")
    await eventually(lambda: len(polite.started) == 2)
    polite.release.set()
    number = 4
    async with asyncio.timeout(5):
        while "space/0" not in polite.ended:
            polite.queue.add(f"space/{number}")
            number += 1
            await asyncio.sleep(0)


async def test_key_added_while_it_gives_way_runs_once_more(polite):
    polite.release.clear()
    for name in ("a", "b", "c"):
        polite.queue.add(name)
    await eventually(lambda: len(polite.started) == 2)
    polite.queue.add("a")
    polite.release.set()
    await eventually(lambda: polite.ended.count("a") == 2 and len(polite.ended) == 4)
