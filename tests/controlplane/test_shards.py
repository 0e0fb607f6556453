"""Two operators share the TaskQueues of a cluster out by label, and see each other's queues."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.controlplane.operators import OperatorProcess, get_condition
from tests.controlplane.rights import bind_rights
from tests.controlplane.samples import await_later_creation, build_task_queue, create, queue_path
from tests.support.brokers import Valkey
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually_sync

MERGE = "application/merge-patch+json"
SECONDS = 40


@pytest.fixture(scope="module")
def homes(control_plane: ControlPlane, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The namespaces of two operators that serve the cluster: one without a shard, one with the shard `blue`."""
    found, running = [], []
    for shard in ("", "blue"):
        home = control_plane.make_namespace("shard")
        kubeconfig = bind_rights(control_plane, home, cluster_wide=True)
        environment = {"TASKFLEET_OPERATOR_SHARD": shard, "TASKFLEET_OPERATOR_LEASE_NAME": "taskfleet-operator"}
        folder = tmp_path_factory.mktemp("shard")
        operator = OperatorProcess(control_plane, valkey, folder, None, home, kubeconfig, environment=environment)
        running.append(operator.start())
        found.append(home)
    yield found
    for operator in running:
        operator.kill()


def label(queue: dict[str, Any], shard: str) -> dict[str, Any]:
    queue["metadata"]["labels"] = {"taskfleet.dev/shard": shard}
    return queue


def find_writers(plane: ControlPlane, namespace: str, name: str) -> list[str]:
    """The namespaces of the accounts that wrote a TaskQueue's status or children, in order."""
    return [
        entry["user"]["username"].split(":")[2]
        for entry in plane.read_audit(namespace)
        if entry["verb"] not in {"get", "list", "watch"}
        and entry["objectRef"].get("name") in {name, f"{name}-worker"}
        and entry["user"]["username"].endswith(":operator")
    ]


def wait_ready(plane: ControlPlane, namespace: str, name: str) -> None:
    eventually_sync(lambda: get_condition(plane, namespace, name).get("status") == "True", SECONDS)


def test_each_serves_its_own_and_a_change_of_label_hands_over(control_plane: ControlPlane, homes: list[str]) -> None:
    namespace, (plain, blue) = control_plane.make_namespace("q"), homes
    create(control_plane, build_task_queue(namespace, "a"))
    create(control_plane, label(build_task_queue(namespace, "b"), "blue"))
    create(control_plane, label(build_task_queue(namespace, "c"), "nobodys"))
    wait_ready(control_plane, namespace, "a")
    wait_ready(control_plane, namespace, "b")
    assert set(find_writers(control_plane, namespace, "a")) == {plain}
    assert set(find_writers(control_plane, namespace, "b")) == {blue}

    change = {"metadata": {"labels": {"taskfleet.dev/shard": "blue"}}, "spec": {"worker": {"image": "other:2"}}}
    before = len(find_writers(control_plane, namespace, "a"))
    control_plane.request("PATCH", queue_path(namespace, "a"), change, MERGE)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/a-worker"

    def has_new_image() -> bool:
        template = control_plane.request("GET", path)["spec"]["template"]
        return bool(template["spec"]["containers"][0]["image"] == "other:2")

    eventually_sync(has_new_image, SECONDS)
    assert set(find_writers(control_plane, namespace, "a")[before:]) == {blue}
    assert find_writers(control_plane, namespace, "c") == []


def test_two_on_one_queue_are_found_across_shards(control_plane: ControlPlane, homes: list[str]) -> None:
    namespace = control_plane.make_namespace("q")
    create(control_plane, build_task_queue(namespace, "old", queueName="contested"))
    wait_ready(control_plane, namespace, "old")
    await_later_creation(control_plane, namespace, "old")
    create(control_plane, label(build_task_queue(namespace, "new", queueName="contested"), "blue"))
    eventually_sync(lambda: get_condition(control_plane, namespace, "new").get("reason") == "QueueConflict", SECONDS)
    assert f"{namespace}/old" in get_condition(control_plane, namespace, "new")["message"]
    control_plane.request("DELETE", queue_path(namespace, "old"))
    wait_ready(control_plane, namespace, "new")
