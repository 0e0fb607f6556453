"""Whose a TaskQueue is, and how the operators of several shards keep apart."""

import pytest
from pydantic import ValidationError

from taskfleet_operator.brokers import BrokerAccess
from taskfleet_operator.indexing import QueueIndex
from taskfleet_operator.settings import OperatorSettings

URLS = {"broker_url": "redis://a", "redis_url": "redis://a"}


def build_raw(name, shard=None, queue="q"):
    labels = {"taskfleet.dev/shard": shard} if shard else {}
    metadata = {"name": name, "namespace": "n", "uid": name, "labels": labels, "generation": 1}
    metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"
    spec = {"queueName": queue, "worker": {"image": "i", "app": "a:a"}}
    return {"apiVersion": "taskfleet.dev/v1alpha1", "kind": "TaskQueue", "metadata": metadata, "spec": spec}


def test_queues_of_other_shards_are_ranked_and_not_read():
    index, access = QueueIndex("blue"), BrokerAccess("redis://a")
    for name, shard in (("a", None), ("b", "blue")):
        index.put(build_raw(name, shard))
        index.set_broker(f"n/{name}", access, "a")
    assert (index.is_ours("n/a"), index.is_ours("n/b"), index.is_ours("n/c")) == (False, True, False)
    assert index.find_older("n/b") == "n/a"
    assert index.find_keys(access, ["q"]) == ["n/b"]
    assert index.put(build_raw("b", "green"))
    index.set_broker("n/b", access, "a")
    assert not index.is_ours("n/b")
    assert index.get_wanted() == {}
    assert index.find_older("n/b") == "n/a"


def test_each_shard_has_a_lease_of_its_own_unless_one_is_named():
    assert OperatorSettings(**URLS).lease_name_of_shard == "taskfleet-operator"
    assert OperatorSettings(**URLS, shard="Team_a").lease_name_of_shard == "taskfleet-operator-team-a"
    assert OperatorSettings(**URLS, shard="a", lease_name="mine").lease_name_of_shard == "mine"
    with pytest.raises(ValidationError):
        OperatorSettings(**URLS, shard="no label")
