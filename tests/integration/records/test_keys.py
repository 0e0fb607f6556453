"""API keys: found by digest, listed by name, and listings bound to some queues."""

from datetime import timedelta

from tests.integration.records.samples import NOW, build_task

from taskfleet_api.records import KeyRecord, Records, TaskFilter

DIGEST = bytes(range(32))


async def test_keys_are_kept_found_listed_and_deleted(records: Records) -> None:
    limited = KeyRecord("shop", ("read", "submit"), ("shop-*", "mail"), NOW, NOW + timedelta(days=1))
    unlimited = KeyRecord("Admin", ("admin",), None, NOW)
    assert await records.add_key(limited, DIGEST)
    assert await records.add_key(unlimited, DIGEST[::-1])
    assert await records.fetch_key(DIGEST) == limited
    assert await records.fetch_key(bytes(32)) is None
    assert await records.list_keys() == [unlimited, limited]
    assert not await records.add_key(limited, bytes(32))
    assert [await records.delete_key("shop") for _ in range(2)] == [True, False]
    assert await records.fetch_key(DIGEST) is None


async def test_listings_are_bound_to_queues(records: Records) -> None:
    tasks = [build_task(queue=queue) for queue in ("a", "b", "c", "a")]
    await records.insert_tasks(tasks)

    async def list_queues(wanted: TaskFilter) -> list[str]:
        return sorted(item.queue for item in (await records.list_tasks(wanted)).items)

    assert await list_queues(TaskFilter(only_queues=("a", "c"))) == ["a", "a", "c"]
    assert await list_queues(TaskFilter(only_queues=())) == []
    assert await list_queues(TaskFilter(queue="b", only_queues=("a",))) == []
    first = await records.list_tasks(TaskFilter(only_queues=("a", "c")), limit=2)
    rest = await records.list_tasks(TaskFilter(only_queues=("a", "c")), first.next_cursor)
    assert len(first.items) + len(rest.items) == 3
