"""The copy of registry and catalog comes back as it was saved."""

from taskfleet_api.records import Records
from taskfleet_core.events import QueueRegistration


def build_registration(queue: str, at: float = 1.0) -> QueueRegistration:
    return QueueRegistration(
        schema=1, namespace="default", name=queue, queueName=queue, uid="u", broker="default", limits={"p": None}, at=at
    )


async def test_registrations_are_saved_replaced_and_forgotten(records: Records) -> None:
    await records.save_queues([build_registration("b"), build_registration("a")])
    await records.save_queues([build_registration("a", 2.0)])
    await records.save_queues([])
    assert await records.load_queues() == [build_registration("a", 2.0), build_registration("b")]
    assert [await records.delete_queues(["b", "nobody"]) for _ in range(2)] == [1, 0]
    assert await records.load_queues() == [build_registration("a", 2.0)]


async def test_catalog_and_registration_do_not_disturb_one_another(records: Records) -> None:
    catalog = {"mail.send": {"properties": {"to": {"type": "string", "default": "\0ü"}}}}
    await records.save_catalog("a", {})
    await records.save_catalog("a", catalog)
    assert await records.load_queues() == []
    await records.save_queues([build_registration("a")])
    assert await records.load_catalogs() == {"a": catalog}
    assert await records.load_queues() == [build_registration("a")]
