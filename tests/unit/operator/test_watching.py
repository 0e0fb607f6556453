"""What a watcher keeps when answers and changes overtake one another, and whom a child belongs to."""

import asyncio

import pytest
from tests.support.waiting import eventually

from taskfleet_core.errors import NotFoundError
from taskfleet_operator.kube import ForbiddenError
from taskfleet_operator.watching import Watcher, find_owner_key


def build_object(version, name="a", **metadata):
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "n", "resourceVersion": str(version), **metadata}}


class ScriptedKube:
    """Answers one list with `items` and one watch with `changes`, and then stays silent."""

    def __init__(self, items, changes):
        self.items, self.changes, self.told = items, changes, asyncio.Event()

    async def list_page(self, kind, namespace, label_selector):
        return self.items, "10"

    async def watch(self, kind, namespace, label_selector, version, seconds):
        for change in self.changes:
            yield change
        self.told.set()
        await asyncio.Event().wait()


async def watch(items, changes, heard=None):
    kube = ScriptedKube(items, changes)
    watcher = Watcher(kube, "Pod", None, (heard if heard is not None else []).append)
    task = asyncio.create_task(watcher.run())
    await eventually(kube.told.is_set)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return watcher


@pytest.mark.parametrize(
    ("changes", "answer", "kept"),
    [
        pytest.param([], 11, "11", id="answer before the watch"),
        pytest.param([("MODIFIED", build_object(12))], 11, "12", id="watch was faster"),
        pytest.param([("DELETED", build_object(12))], 11, None, id="deleted before the answer came"),
        pytest.param([("DELETED", build_object(12))], 13, "13", id="made again"),
    ],
)
async def test_newest_wins(changes, answer, kept):
    watcher = await watch([build_object(5)], changes)
    watcher.put(build_object(answer))
    present = watcher.get("n", "a")
    assert (present and present["metadata"]["resourceVersion"]) == kept


async def test_every_change_is_told_and_bookmarks_are_not():
    heard = []
    changes = [("ADDED", build_object(11, "b")), ("BOOKMARK", build_object(12)), ("DELETED", build_object(13, "b"))]
    await watch([build_object(5)], changes, heard)
    assert [(item["metadata"]["name"], item["metadata"]["resourceVersion"]) for item in heard] == [
        ("a", "5"),
        ("b", "11"),
        ("b", "13"),
    ]


OWNER = {"kind": "TaskQueue", "name": "mine", "controller": True}


@pytest.mark.parametrize(
    ("metadata", "key"),
    [
        pytest.param({"ownerReferences": [OWNER]}, "n/mine", id="owner alone"),
        pytest.param({"ownerReferences": [OWNER], "labels": {"taskfleet.dev/queue": "x"}}, "n/mine", id="owner first"),
        pytest.param(
            {"ownerReferences": [{"kind": "ReplicaSet", "name": "r", "controller": True}],
             "labels": {"taskfleet.dev/queue": "mine"}},
            "n/mine",
            id="pod",
        ),
        pytest.param({"ownerReferences": [{**OWNER, "controller": False}]}, None, id="shared by many"),
        pytest.param({}, None, id="nobody's"),
    ],
)  # fmt: skip
def test_owner(metadata, key):
    assert find_owner_key(build_object(1, **metadata)) == key


async def test_a_kind_that_nobody_installed_is_not_waited_for():
    """An operator of a newer version under an older CRD scales without limits instead of waiting for ever."""
    heard = []

    class Without(ScriptedKube):
        async def list_page(self, kind, namespace, label_selector):
            raise self.error

    kube = Without([], [])
    for error, gone in ((ForbiddenError("no right"), False), (NotFoundError("no kind"), True)):
        kube.error = error
        watcher = Watcher(kube, "TaskQueuePolicy", None, heard.append, selector="", is_optional=True)
        watcher.put(build_object(5))
        task = asyncio.create_task(watcher.run())
        await eventually(watcher.synced.is_set)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (watcher.get("n", "a") is None) == gone
    assert [item["metadata"]["name"] for item in heard] == ["a"]  # what is gone is told


async def test_the_objects_of_a_task_queue_are_found_without_a_walk_over_all():
    def owned(name, version, queue, **metadata):
        return build_object(version, name, labels={"taskfleet.dev/queue": queue}, **metadata)

    changes = [
        ("ADDED", owned("c", 11, "a")),
        ("MODIFIED", owned("b", 12, "other")),
        ("ADDED", owned("d", 13, "a")),
        ("DELETED", owned("d", 14, "a")),
    ]
    watcher = await watch([owned("a", 5, "a"), owned("b", 5, "a"), build_object(5, "nobodys")], changes)
    assert [item["metadata"]["name"] for item in watcher.find_owned("n/a")] == ["a", "c"]
    assert [item["metadata"]["name"] for item in watcher.find_owned("n/other")] == ["b"]
    watcher.put(owned("e", 20, "other"))
    assert [item["metadata"]["name"] for item in watcher.find_owned("n/other")] == ["b", "e"]
    assert watcher.find_owned("n/none") == []
