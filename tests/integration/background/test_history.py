"""The history is written once by any replica, with what all of them counted, and rolled up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.integration.background.conftest import Servers, Store
from tests.support.events import build_heartbeat, build_new_task, build_state_event
from tests.support.waiting import eventually

from taskfleet_api.background import QueueStatus
from taskfleet_api.background.history import HistoryWriter
from taskfleet_api.background.tallies import Tallies
from taskfleet_api.live import LiveStore
from taskfleet_api.records import Records, open_records
from taskfleet_core.states import TaskState

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
STEP = timedelta(seconds=10)


class Known:
    """The queues and their figures, as directory and monitor tell them."""

    def __init__(self, **statuses: Any) -> None:
        self.statuses = statuses

    def names(self) -> list[str]:
        return sorted(self.statuses)

    def get(self, name: str) -> Any:
        return self.statuses[name]


class Writer:
    """A history writer whose clock the test sets."""

    def __init__(self, records: Records, live: LiveStore, known: Any) -> None:
        self.now = START
        self.records = records
        self.tallies = Tallies()
        self.step = HistoryWriter(records, live, known, known, self.tallies, lambda: self.now).step

    async def advance(self, seconds: float) -> float:
        """Let it do what is due so much later."""
        self.now += timedelta(seconds=seconds)
        return await self.step()


@asynccontextmanager
async def writers(servers: Servers, count: int, known: Any) -> AsyncIterator[list[Writer]]:
    live = LiveStore(servers.redis_url)
    opened = [await open_records(servers.database_url) for _ in range(count)]
    try:
        yield [Writer(records, live, known) for records in opened]
    finally:
        for records in opened:
            await records.close()
        await live.close()


def build_known(**ready: int | None) -> Known:
    return Known(
        **{name: QueueStatus(name, ready=value, unacknowledged=0, workers=[]) for name, value in ready.items()}
    )


async def test_what_all_replicas_counted_is_written_once_by_one(servers: Servers) -> None:
    known = build_known(mail=3, quiet=0, unknown=None)
    async with writers(servers, 2, known) as (first, second):
        for writer in (first, second):
            writer.tallies.note_end("mail", "succeeded")
            writer.tallies.note_wait("mail", 2.0)
        pause = await first.advance(10.0)
        assert await second.advance(10.2) > 0  # told, and waits for who wrote the last one
        assert 0 < pause <= 3.5
        await second.advance(3.4)
        await first.advance(4.0)
        found = await first.records.fetch_samples(known.names(), 10, START, START + 9 * STEP)
        assert [(sample.queue, sample.ready, sample.finished) for sample in found] == [
            ("mail", 3, 2),
            ("unknown", None, 0),
        ]
        assert sum((found[0].waits or {}).values()) == 2


async def test_who_wrote_the_last_interval_goes_first_and_is_replaced_when_it_is_gone(servers: Servers) -> None:
    async with writers(servers, 2, build_known(mail=1)) as (first, second):
        await first.advance(14.0)
        assert await first.records.has_interval(10, START)
        await second.advance(14.0)
        await second.advance(9.0)  # 23 s: the other's turn
        assert not await first.records.has_interval(10, START + STEP)
        await first.advance(8.0)  # 22 s
        assert await first.records.has_interval(10, START + STEP)
        await second.advance(1.0)
        await second.advance(10.0)  # 34 s, and the first is gone
        assert await first.records.has_interval(10, START + 2 * STEP)


async def test_minutes_and_ten_minutes_are_made_of_what_was_seen(servers: Servers) -> None:
    known = build_known(mail=0)
    async with writers(servers, 1, known) as (writer,):
        for number in range(61):
            if number == 33:
                writer.now += timedelta(seconds=30)  # nobody looked
                continue
            known.statuses["mail"] = replace(known.statuses["mail"], ready=5 if number == 3 else 0)
            if number in (3, 4):
                writer.tallies.note_end("mail", "failed")
            await writer.advance(14.0 if number == 0 else 10.0)
        minutes = await writer.records.fetch_intervals(60, START, START + 61 * STEP)
        assert minutes == [START + number * 6 * STEP for number in range(10)]
        (minute,) = await writer.records.fetch_samples(["mail"], 60, START, START + 61 * STEP)
        (ten,) = await writer.records.fetch_samples(known.names(), 600, START, START + 61 * STEP)
        for sample in (minute, ten):
            assert (sample.at, sample.ready, sample.finished, sample.failed) == (START, 5, 2, 2)
            assert (sample.workers, sample.desired) == (0, 0)


async def test_without_the_store_ends_are_unknown_and_count_later(servers: Servers) -> None:
    records, known = await open_records(servers.database_url), build_known(mail=2)
    away = LiveStore("redis://127.0.0.1:1/0", timeout_seconds=0.2)
    try:
        writer = Writer(records, away, known)
        writer.tallies.note_end("mail", "succeeded")
        await writer.advance(14.0)
        (sample,) = await records.fetch_samples(known.names(), 10, START, START + STEP)
        assert (sample.ready, sample.finished, sample.desired) == (2, None, None)
        assert writer.tallies.take()["mail"]["finished"] == 1
    finally:
        await away.close()
        await records.close()


async def test_a_replica_keeps_the_history_of_what_runs(servers: Servers, store: Store) -> None:
    """The whole of it with its own clock: what is recorded appears in the interval that is written next."""
    await store.register("q")
    await store.beat(build_heartbeat("q"))
    begun = datetime.now(UTC) - 2 * STEP
    async with servers.replica() as replica:
        (task_id,) = await replica.submit([build_new_task(queue="q")])
        await store.emit(build_state_event(TaskState.RUNNING, task_id, queue="q"))
        await store.emit(build_state_event(TaskState.SUCCEEDED, task_id, queue="q", result=1))

        async def fetch_finished() -> Any:
            found = await replica.records.fetch_samples(["q"], 10, begun, datetime.now(UTC))
            return [sample for sample in found if sample.finished]

        (sample,) = await eventually(fetch_finished, timeout_seconds=40)
        assert sample.workers == 1
        assert sum((sample.waits or {}).values()) == 1
