"""The history of the queues on every database: each interval is written once, read by queue and deleted whole."""

import asyncio
from datetime import timedelta

from msgspec import structs
from tests.integration.records.samples import build_task
from tests.support.events import build_registration
from tests.support.queue_samples import AT, build_sample

from taskfleet_api.records import QueueSample, Records

STEP = timedelta(seconds=10)
FULL = build_sample(running=1.5, oldest_wait_seconds=3.25, waits={0: 3, 41: 1}, reason="zwölf \ud800 \0 waiting tasks")
NAMES = ["archive", "mail"]
UNKNOWN = QueueSample(queue="archive", at=AT, waits={})


async def test_an_interval_comes_back_as_it_was_written(records: Records) -> None:
    assert await records.save_interval(10, AT, [FULL, UNKNOWN])
    found = await records.fetch_samples(NAMES, 10, AT, AT + STEP)
    assert found == [UNKNOWN, structs.replace(FULL, reason="zwölf \ufffd \ufffd waiting tasks")]
    assert await records.fetch_samples(["mail", "nobody"], 10, AT, AT + STEP) == found[1:]
    assert await records.fetch_samples(["mail"], 10, AT - STEP, AT) == []
    assert await records.fetch_samples(["mail"], 60, AT, AT + STEP) == []


async def test_of_two_replicas_one_writes_an_interval_and_the_other_leaves_nothing(
    records: Records, replica: Records
) -> None:
    samples = [[structs.replace(FULL, ready=number)] for number in range(8)]
    written = await asyncio.gather(
        *[(records, replica)[number % 2].save_interval(10, AT, one) for number, one in enumerate(samples)]
    )
    assert sum(written) == 1
    (kept,) = await records.fetch_samples(NAMES, 10, AT, AT + STEP)
    assert kept.ready == written.index(True)


async def test_an_interval_in_which_nothing_was_there_is_known(records: Records) -> None:
    assert not await records.has_interval(10, AT)
    assert await records.save_interval(10, AT, [])
    assert await records.has_interval(10, AT)
    assert not await records.has_interval(60, AT)
    assert await records.fetch_intervals(10, AT - STEP, AT + STEP) == [AT]
    assert await records.fetch_intervals(10, AT - STEP, AT) == []


async def test_old_intervals_go_whole_and_the_oldest_first(records: Records) -> None:
    for number in range(4):
        await records.save_interval(10, AT + number * STEP, [structs.replace(FULL, at=AT + number * STEP)])
    await records.save_interval(60, AT, [FULL])
    assert await records.delete_intervals(10, AT + 3 * STEP, 2) == 2
    assert await records.fetch_intervals(10, AT, AT + 9 * STEP) == [AT + 2 * STEP, AT + 3 * STEP]
    assert await records.delete_intervals(10, AT + 3 * STEP, 9) == 1
    assert [sample.at for sample in await records.fetch_samples(NAMES, 10, AT, AT + 9 * STEP)] == [AT + 3 * STEP]
    assert len(await records.fetch_samples(NAMES, 60, AT, AT + STEP)) == 1


async def test_the_oldest_task_at_the_broker_is_the_one_accepted_first(records: Records) -> None:
    await records.save_queues([build_registration("q"), build_registration("empty")])
    tasks = [build_task(queue="q", created_at=AT + number * STEP) for number in range(3)]
    await records.insert_tasks(tasks)
    assert await records.fetch_oldest(["q", "empty"]) == {}
    published = AT + 90 * STEP
    await records.mark_queued([task.id for task in tasks[1:]], now=published)
    assert await records.fetch_oldest(["q", "empty", "unregistered"]) == {"q": published}
