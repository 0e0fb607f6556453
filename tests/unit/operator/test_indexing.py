"""Which TaskQueue keeps a queue, found without comparing each with each."""

from collections.abc import Mapping
from typing import Any

import pytest

from taskfleet_operator.brokers import BrokerAccess, build_identity
from taskfleet_operator.indexing import QueueIndex

OWN = BrokerAccess("amqp://operator:x@broker.system:5672//")
SAME = BrokerAccess("amqp://team:y@broker.system.svc.cluster.local/")
OTHER = BrokerAccess("amqp://team:y@elsewhere//")


def build_raw(key: str, *, minute: int = 0, spec: Mapping[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    namespace, name = key.split("/")
    return {
        "apiVersion": "taskfleet.dev/v1alpha1",
        "kind": "TaskQueue",
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"uid-{key}",
            "resourceVersion": "1",
            "creationTimestamp": f"2026-01-01T00:{minute:02}:00Z",
            **metadata,
        },
        "spec": {"worker": {"image": "app:1", "app": "app:celery"}, **(spec or {})},
    }


def fill(*items: tuple[str, int, BrokerAccess]) -> QueueIndex:
    """TaskQueues on the queue `q`, each at a broker."""
    index = QueueIndex()
    for key, minute, access in items:
        index.put(build_raw(key, minute=minute, spec={"queueName": "q"}))
        index.set_broker(key, access, access.identity)
    return index


def test_the_older_one_keeps_the_queue_whatever_the_way_to_its_broker() -> None:
    index = fill(("a/new", 5, OWN), ("b/old", 1, SAME), ("c/far", 0, OTHER))
    assert index.find_older("a/new") == "b/old"
    assert index.find_older("b/old") is None
    assert index.find_older("c/far") is None


def test_whose_rank_may_have_changed_is_told() -> None:
    index = fill(("a/new", 5, OWN), ("b/old", 1, OTHER))
    assert index.set_broker("b/old", SAME, SAME.identity) == {"a/new"}
    assert index.set_broker("b/old", SAME, SAME.identity) == set()
    assert index.set_broker("b/old", OTHER, OTHER.identity) == {"a/new"}
    assert index.find_older("a/new") is None


def test_a_queue_is_polled_once_per_way_to_it_and_no_longer_than_it_is_wanted() -> None:
    index = fill(("a/x", 1, OWN), ("b/x", 2, OWN), ("c/x", 3, OTHER))
    assert index.get_wanted() == {OWN: {"q"}, OTHER: {"q"}}
    assert sorted(index.find_keys(OWN, ["q", "none"])) == ["a/x", "b/x"]
    assert sorted(index.find_keys(None, ["q"])) == ["a/x", "b/x", "c/x"]
    assert index.has_namesakes("q")
    for key in ("c/x", "b/x"):
        index.remove(key)
    assert index.get_wanted() == {OWN: {"q"}}
    assert not index.has_namesakes("q")


def test_what_the_operator_writes_itself_is_no_change() -> None:
    index = QueueIndex()
    assert index.put(build_raw("a/x"))
    revision = index.revision
    assert not index.put({**build_raw("a/x", resourceVersion="2"), "status": {"replicas": 1}})
    assert index.entries["a/x"].raw["metadata"]["resourceVersion"] == "2"
    assert index.revision == revision
    assert index.put(build_raw("a/x", annotations={"taskfleet.dev/paused": "true"}))


def test_a_change_that_means_the_same_queue_keeps_its_place_and_another_broker_gives_it_up() -> None:
    index = fill(("a/x", 1, OWN))
    index.put(build_raw("a/x", spec={"queueName": "q", "scaling": {"maxReplicas": 3}}))
    assert index.find_keys(OWN, ["q"]) == ["a/x"]
    index.put(build_raw("a/x", spec={"queueName": "q", "broker": {"secretRef": {"name": "s"}}}))
    assert index.find_keys(OWN, ["q"]) == []
    assert index.get_wanted() == {}


def test_an_invalid_spec_has_no_queue_and_a_new_one_of_the_same_name_starts_afresh() -> None:
    index = fill(("a/x", 1, OWN))
    index.put(build_raw("a/x", spec={"scaling": {"minReplicas": -1}}))
    assert index.entries["a/x"].error is not None
    assert index.get_wanted() == {}
    index.put(build_raw("a/x", uid="another", spec={"queueName": "q"}))
    assert index.entries["a/x"].access is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("amqp://a:b@h:5672//", "pyamqp://c:d@H/", True, id="users, spelling and default port"),
        pytest.param("amqp://h/v1", "amqp://h/v2", False, id="virtual hosts are brokers of their own"),
        pytest.param("amqp://x.ns:5672//", "amqp://x.ns.svc.cluster.local:5672//", True, id="names of one Service"),
        pytest.param("amqp://a//;amqp://b//", "amqp://b//;amqp://a//", True, id="order of nodes"),
        pytest.param("redis://h/0", "redis://:p@h:6379", True, id="default database"),
        pytest.param("redis://h/0", "redis://h/1", False, id="databases"),
        pytest.param("redis://h/0", "amqp://h/0", False, id="kinds"),
    ],
)
def test_the_same_broker_is_the_same_by_any_name(one: str, other: str, same: bool) -> None:
    assert (build_identity(one) == build_identity(other)) == same


def test_credentials_are_not_shown() -> None:
    assert "hidden" not in repr(BrokerAccess("amqp://u:hidden@h//", "http://u:hidden@h", "http://u:hidden@h"))
    with pytest.raises(ValueError, match="amqp") as caught:
        build_identity("http://u:hidden@h")
    assert "hidden" not in str(caught.value)


def test_a_task_queue_of_several_queues_is_found_by_each_and_keeps_or_yields_them_all() -> None:
    index = fill(("a/old", 1, OWN))
    several = {"queues": [{"name": "p"}, {"name": "q"}]}
    index.put(build_raw("b/new", minute=2, spec=several))
    assert index.set_broker("b/new", OWN, OWN.identity) == {"a/old"}
    assert index.get_wanted() == {OWN: {"p", "q"}}
    assert index.find_keys(OWN, ["p"]) == ["b/new"]
    assert (index.find_older("b/new"), index.find_older("a/old")) == ("a/old", None)
    gone = index.remove("a/old")
    assert gone is not None
    assert index.find_at(gone.places) == {"b/new"}
    assert index.find_older("b/new") is None
    index.put(build_raw("b/new", minute=2, spec={"queues": [{"name": "p"}]}))
    index.set_broker("b/new", OWN, OWN.identity)
    assert index.get_wanted() == {OWN: {"p"}}
