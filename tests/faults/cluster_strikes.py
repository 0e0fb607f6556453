"""Strikes at pods and processes of the cluster: killed, deleted, stopped, starved, emptied, alarmed, cut off."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.faults.cluster_ground import ClusterGround
from tests.faults.cluster_links import cut_off
from tests.faults.generator import QUEUE
from tests.faults.striking import Field, Strike
from tests.support.cluster import RELEASE, Json
from tests.support.ledger import read_ledger
from tests.support.waiting import eventually_sync

__all__ = [
    "PODS",
    "Pod",
    "alarm_disk",
    "alarm_memory",
    "cut_leader_off",
    "delete",
    "flush",
    "forget",
    "kill",
    "kill_children",
    "kill_follower",
    "kill_leader",
    "starve",
    "stop",
]

OUTAGE_SECONDS = 20.0  # of what nobody but us starts again: API server, kubelet
HUNGRY_MEBIBYTES = 1024  # twice a worker's limit
TASK_SECONDS = 0.15  # long enough to be met half way
FIND_SECONDS = 120
CHILDREN = 3  # killed one after the other
BROKER, VALKEY = f"{RELEASE}-rabbitmq-0", f"{RELEASE}-valkey-0"


@dataclass(frozen=True)
class Pod:
    """A pod of the installation, found anew each time."""

    part: str
    name: str
    find_all: Callable[[ClusterGround], list[Json]]

    def find(self, ground: ClusterGround) -> Json:
        """The first whose container runs: another strike may have met it a moment ago."""

        def find_running() -> Json | None:
            return next((pod for pod in self.find_all(ground) if _is_running(pod)), None)

        return eventually_sync(find_running, FIND_SECONDS, 0.2)


def _is_running(pod: Json) -> bool:
    containers = pod["status"].get("containerStatuses", [])
    return "deletionTimestamp" not in pod["metadata"] and bool(containers) and "running" in containers[0]["state"]


def _component(name: str) -> Callable[[ClusterGround], list[Json]]:
    return lambda ground: ground.find_component(name)


PODS = (
    Pod("API", "API pod, one of two", _component("api")),
    Pod("Worker", "worker pod, one of two", lambda ground: ground.cluster.pods(QUEUE)),
    Pod("Broker", "RabbitMQ pod", _component("rabbitmq")),
    Pod("Valkey", "Valkey pod", _component("valkey")),
    Pod("Database", "PostgreSQL pod", _component("postgresql")),
    Pod("Operator", "operator pod", _component("operator")),
)


def kill(pod: Pod) -> Strike:
    """All processes of a pod's container get SIGKILL."""

    def strike(field: Field) -> None:
        field.stack.cluster.kill_container(pod.find(field.stack))
        field.lift()  # the kubelet starts it again at once

    return strike


def delete(pod: Pod) -> Strike:
    """A pod is deleted and replaced, as by a drain."""

    def strike(field: Field) -> None:
        field.stack.cluster.kubectl("delete", "pod", pod.find(field.stack)["metadata"]["name"])
        field.lift()  # it is gone; its successor may be there already

    return strike


def stop(process: str) -> Strike:
    """A process of the node itself is away for a while."""

    def strike(field: Field) -> None:
        field.stack.cluster.node("kill", process)
        try:
            field.last(OUTAGE_SECONDS)
        finally:
            field.lift()
            field.stack.bring_node_up()

    return strike


# --- workers ---------------------------------------------------------------------------------------------------------


def starve(field: Field) -> None:
    """A task takes more memory than its pod may have; delivered again, it is content."""
    field.load.submit_hungry(HUNGRY_MEBIBYTES)
    field.lift()


def kill_children(field: Field) -> None:
    """The processes that run tasks, one after the other; the parent in their pod starts others."""
    field.load.task_seconds = TASK_SECONDS
    uids = [pod["metadata"]["uid"] for pod in field.stack.cluster.pods(QUEUE)]

    def strike() -> bool:
        running = {run.pid for run in read_ledger(field.load.ledger) if run.ending == "interrupted"}
        busy = [outer for outer, inner in _list_processes(uids) if inner in running]
        for process in busy[:1]:
            os.kill(process, signal.SIGKILL)
        return bool(busy)

    for _ in range(CHILDREN):
        eventually_sync(strike, FIND_SECONDS, 0.005)
    field.lift()


def _list_processes(uids: list[str]) -> Iterator[tuple[int, int]]:
    """The processes of these pods, but for each container's first: their numbers here and as they know them."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(uid in (folder / "cgroup").read_text() for uid in uids):
                status = (folder / "status").read_text()
                inner = int(status.split("\nNSpid:", 1)[1].split("\n", 1)[0].split()[-1])
                if inner != 1:
                    yield int(folder.name), inner


# --- servers ---------------------------------------------------------------------------------------------------------


def forget(field: Field) -> None:
    """Valkey comes back empty: its append-only file is gone, as with the volume of a node that died."""
    cluster = field.stack.cluster
    cluster.kubectl("exec", VALKEY, "--", "rm", "-rf", "/data/appendonlydir")
    cluster.kill_container(cluster.get("pod", VALKEY))
    field.lift()


def flush(field: Field) -> None:
    """Valkey loses everything and goes on: live states, events, heartbeats and the list of queues."""
    answer = field.stack.cluster.kubectl("exec", VALKEY, "--", "valkey-cli", "flushall")
    assert answer.strip() == "OK", answer
    field.lift()


def alarm_memory(field: Field) -> None:
    """RabbitMQ accepts nothing from publishers while it takes itself for too large."""
    _alarm(field, "set_vm_memory_high_watermark absolute 1MB", "set_vm_memory_high_watermark 0.6")


def alarm_disk(field: Field) -> None:
    """RabbitMQ accepts nothing from publishers while it takes its disk for too full."""
    _alarm(field, "set_disk_free_limit 100000000000000", "set_disk_free_limit 50000000")


def _alarm(field: Field, raise_it: str, end_it: str) -> None:
    def control(order: str) -> str:
        return field.stack.cluster.kubectl("exec", BROKER, "--", *order.split())

    control(f"rabbitmqctl {raise_it}")
    try:
        field.last(field.pace.network_seconds)
        assert "no alarms" not in control("rabbitmq-diagnostics alarms"), "the alarm was not raised"
    finally:
        control(f"rabbitmqctl {end_it}")
    field.lift()


# --- three RabbitMQ nodes --------------------------------------------------------------------------------------------


def _find_nodes(ground: ClusterGround) -> tuple[Json, list[Json]]:
    """The node that leads the queue, and the others."""
    found = eventually_sync(lambda: ground.fetch_queue().get("leader"), 60, 0.5)
    name = str(found).split("@")[1].split(".")[0]
    nodes = ground.find_component("rabbitmq")
    (leader,) = [pod for pod in nodes if pod["metadata"]["name"] == name]
    return leader, [pod for pod in nodes if pod is not leader]


def kill_leader(field: Field) -> None:
    """The node of three that leads the queue."""
    leader, _ = _find_nodes(field.stack)
    field.stack.cluster.kill_container(leader)
    field.lift()


def kill_follower(field: Field) -> None:
    """A node of three that follows."""
    _, others = _find_nodes(field.stack)
    field.stack.cluster.kill_container(others[0])
    field.lift()


def cut_leader_off(field: Field) -> None:
    """The leader hears nothing of the other two, while its clients still reach it."""
    leader, others = _find_nodes(field.stack)
    cut_off(field, leader, others)
