"""Listings: newest first, every filter, and pages that stay right while tasks come, change and go."""

from datetime import timedelta

import pytest
from tests.integration.records.samples import NOW, build_event, build_task, build_tasks, celery_id, ids_of, new_id

from taskfleet_api.records import Records, TaskFilter
from taskfleet_core.errors import InvalidInputError
from taskfleet_core.states import TaskState


async def collect(records: Records, wanted: TaskFilter, limit: int) -> list[object]:
    """All pages."""
    found: list[object] = []
    cursor = None
    while True:
        page = await records.list_tasks(wanted, cursor, limit)
        assert len(page.items) <= limit
        found += [item.id for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_pages_are_newest_first_without_gaps(records: Records) -> None:
    tasks = build_tasks(23)
    await records.insert_tasks(tasks)
    assert await collect(records, TaskFilter(), 5) == ids_of(tasks)[::-1]
    assert await collect(records, TaskFilter(), 23) == ids_of(tasks)[::-1]


async def test_a_page_of_large_tasks_is_shorter_than_asked_for(records: Records) -> None:
    """Else the list of what one caller submitted does not fit into the API's memory."""
    tasks = [build_task(args_json=f'["{"x" * 900_000}"]', created_at=NOW + timedelta(seconds=n)) for n in range(24)]
    await records.insert_tasks(tasks)
    page = await records.list_tasks(TaskFilter(), None, 24)
    assert 1 <= len(page.items) < 24
    rest = await records.list_tasks(TaskFilter(), page.next_cursor, 24)
    assert [item.id for item in (*page.items, *rest.items)] == ids_of(tasks)[::-1]
    assert rest.next_cursor is None


async def test_tasks_of_one_batch_with_the_same_time_page_by_id(records: Records) -> None:
    tasks = [build_task() for _ in range(10)]
    await records.insert_tasks(tasks)
    assert await collect(records, TaskFilter(), 3) == sorted(ids_of(tasks), reverse=True)


async def test_pages_are_stable_under_inserts_and_changes_of_state(records: Records) -> None:
    tasks = build_tasks(12)
    await records.insert_tasks(tasks)
    first = await records.list_tasks(TaskFilter(), None, 5)
    await records.insert_tasks([build_task(created_at=NOW + timedelta(hours=1))])
    await records.apply_events([build_event(task.id, "running") for task in tasks[::2]])
    second = await records.list_tasks(TaskFilter(), first.next_cursor, 5)
    third = await records.list_tasks(TaskFilter(), second.next_cursor, 5)
    seen = [item.id for page in (first, second, third) for item in page.items]
    assert seen == ids_of(tasks)[::-1]
    assert third.next_cursor is None


async def test_filters_narrow_the_listing(records: Records) -> None:
    mail = build_tasks(4)
    image = build_tasks(3, queue="images", task="images.scale")
    await records.insert_tasks([*mail, *image])
    await records.apply_events([build_event(mail[0].id, "running"), build_event(mail[1].id, "failed")])
    states = frozenset({TaskState.RUNNING, TaskState.FAILED})

    async def find(**fields: object) -> list[object]:
        return await collect(records, TaskFilter(**fields), 2)  # type: ignore[arg-type]

    assert await find(queue="images") == ids_of(image)[::-1]
    assert await find(task="images.scale") == ids_of(image)[::-1]
    assert await find(states=states) == ids_of(mail[:2])[::-1]
    assert await find(queue="images", states=states) == []
    assert await find(queue="none") == []
    assert await find(queue="a\0b" * 300) == []
    middle = NOW + timedelta(milliseconds=2)
    assert set(await find(created_after=middle)) == {mail[2].id, mail[3].id, image[2].id}
    assert await find(created_before=middle, queue="mail") == ids_of(mail[:2])[::-1]


async def test_metadata_filters_combine(records: Records) -> None:
    red = build_tasks(5, labels=(("colour", "red"),))
    both = build_tasks(5, labels=(("colour", "red"), ("size", "1")))
    await records.insert_tasks([*red, *both])
    colour, size = ("colour", "red"), ("size", "1")
    newest_both = [task.id for task in reversed(both)]
    assert len(await collect(records, TaskFilter(labels=(colour,)), 3)) == 10
    assert await collect(records, TaskFilter(labels=(colour, size)), 3) == newest_both
    assert await collect(records, TaskFilter(labels=(size, colour), queue="mail"), 3) == newest_both
    assert await collect(records, TaskFilter(labels=(size,), states=frozenset({TaskState.DEAD})), 3) == []
    assert await collect(records, TaskFilter(labels=(("size", "2"),)), 3) == []


async def test_tasks_of_celery_producers_stand_at_their_time_whatever_their_id(records: Records) -> None:
    before, after = build_task(), build_task(created_at=NOW + timedelta(seconds=20))
    await records.insert_tasks([before, after])
    foreign = [celery_id() for _ in range(8)]
    await records.apply_events([build_event(task_id, "running", 10.0) for task_id in foreign])
    found = await collect(records, TaskFilter(), 3)
    assert (found[0], found[-1], set(found[1:-1])) == (after.id, before.id, set(foreign))


@pytest.mark.parametrize("cursor", ["x", "é", "AAAA", "A" * 43, "A" * 1000, "=", "_" * 43])
async def test_a_broken_cursor_is_the_callers_mistake(records: Records, cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="cursor"):
        await records.list_tasks(TaskFilter(), cursor, 5)


async def test_a_cursor_of_other_filters_is_refused(records: Records) -> None:
    await records.insert_tasks(build_tasks(3))
    page = await records.list_tasks(TaskFilter(queue="mail"), None, 2)
    with pytest.raises(InvalidInputError, match="other filters"):
        await records.list_tasks(TaskFilter(), page.next_cursor, 2)


async def test_unknown_ids_are_absent(records: Records) -> None:
    task = build_task()
    await records.insert_tasks([task])
    assert await records.get(new_id()) is None
    assert set(await records.get_many([task.id, new_id()])) == {task.id}
    assert await records.get_many([]) == {}


async def test_counts_are_per_queue_and_state(records: Records) -> None:
    tasks = build_tasks(4)
    await records.insert_tasks([*tasks, build_task(queue="images", eta=NOW + timedelta(days=1))])
    await records.mark_queued([tasks[0].id])
    await records.apply_events([build_event(tasks[1].id, "dead"), build_event(tasks[2].id, "succeeded")])
    assert await records.queue_counts() == {
        "mail": {"queued": 1, "dead": 1, "pending": 1},
        "images": {"scheduled": 1},
    }


async def test_unfinished_tasks_are_counted_by_queue_and_caller(records: Records) -> None:
    tasks = [*build_tasks(3, principal="a"), *build_tasks(2, principal="b"), build_task(queue="other", principal="a")]
    await records.insert_tasks(tasks)
    await records.apply_events([build_event(tasks[0].id, "succeeded"), build_event(tasks[1].id, "running")])
    assert await records.count_unfinished(by_caller=True) == {("mail", "a"): 2, ("mail", "b"): 2, ("other", "a"): 1}
    assert await records.count_unfinished(by_caller=False) == {("mail", ""): 4, ("other", ""): 1}
