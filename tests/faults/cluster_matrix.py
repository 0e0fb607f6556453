"""All faults of the cluster, in the order of the page, by the installation that they need."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.cluster_ground import ClusterGround, ClusterOptions
from tests.faults.cluster_links import LINK_FAULTS, cut_off
from tests.faults.generator import QUEUE
from tests.faults.striking import Fault, Field, Pace, Strike
from tests.faults.upgrading import roll_back, upgrade
from tests.support.cluster import RELEASE, Json
from tests.support.waiting import eventually_sync

__all__ = ["GROUPS", "Group"]

OUTAGE_SECONDS = 20.0  # of what nobody but us starts again: API server, kubelet
HUNGRY_MEBIBYTES = 1024  # twice a worker's limit
NODES = 3
PACE = Pace(before=120, after=80, per_second=25.0, settle_seconds=240.0)
# Pods come and go for minutes, and tasks are longer.
UPGRADE_PACE = Pace(before=60, after=40, per_second=10.0, settle_seconds=240.0, load_seconds=1500.0)


@dataclass(frozen=True)
class Group:
    """Faults that share an installation, which each of them leaves whole."""

    options: ClusterOptions
    faults: tuple[Fault, ...]
    pace: Pace = PACE


@dataclass(frozen=True)
class Pod:
    """A pod of the installation, found anew each time."""

    part: str
    name: str
    find: Callable[[ClusterGround], Json]


def _component(name: str) -> Callable[[ClusterGround], Json]:
    return lambda ground: ground.find_component(name)[0]


def _named(name: str) -> Callable[[ClusterGround], Json]:
    return lambda ground: ground.cluster.get("pod", f"{RELEASE}-{name}-0")


PODS = (
    Pod("API", "API pod, one of two", _component("api")),
    Pod("Worker", "worker pod, one of two", lambda ground: ground.cluster.pods(QUEUE)[0]),
    Pod("Broker", "RabbitMQ pod", _named("rabbitmq")),
    Pod("Valkey", "Valkey pod", _named("valkey")),
    Pod("Database", "PostgreSQL pod", _named("postgresql")),
    Pod("Operator", "operator pod", _component("operator")),
)


def _kill(pod: Pod) -> Strike:
    def strike(field: Field) -> None:
        field.stack.cluster.kill_container(pod.find(field.stack))
        field.lift()  # the kubelet starts it again at once

    return strike


def _delete(pod: Pod) -> Strike:
    def strike(field: Field) -> None:
        field.stack.cluster.kubectl("delete", "pod", pod.find(field.stack)["metadata"]["name"])
        field.lift()  # it is gone; its successor may be there already

    return strike


def _stop(process: str) -> Strike:
    def strike(field: Field) -> None:
        field.stack.cluster.node("kill", process)
        try:
            field.last(OUTAGE_SECONDS)
        finally:
            field.lift()
            field.stack.bring_node_up()

    return strike


def starve(field: Field) -> None:
    """A task takes more memory than its pod may have; delivered again, it is content."""
    field.load.submit_hungry(HUNGRY_MEBIBYTES)
    field.lift()


def forget(field: Field) -> None:
    """Valkey comes back empty: its append-only file is gone, as with the volume of a node that died."""
    cluster = field.stack.cluster
    cluster.kubectl("exec", f"{RELEASE}-valkey-0", "--", "rm", "-rf", "/data/appendonlydir")
    cluster.kill_container(cluster.get("pod", f"{RELEASE}-valkey-0"))
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


GROUPS = (
    Group(
        ClusterOptions(),
        (
            *(
                fault
                for pod in PODS
                for fault in (
                    Fault(f"{pod.name} killed (kill -9)", pod.part, _kill(pod)),
                    Fault(f"{pod.name} deleted", pod.part, _delete(pod)),
                )
            ),
            Fault("Valkey pod killed, its append-only file lost", "Valkey", forget),
            Fault("a task beyond its pod's memory limit", "Worker", starve),
            Fault("Kubernetes API server killed, back after 20 s", "Kubernetes", _stop("kube-apiserver")),
            Fault("kubelet killed, back after 20 s", "Kubernetes", _stop("kubelet")),
            *LINK_FAULTS,
        ),
    ),
    Group(
        ClusterOptions(broker_nodes=NODES),
        (
            Fault("one of three RabbitMQ pods killed, a follower", "Broker", kill_follower),
            Fault("one of three RabbitMQ pods killed, the leader", "Broker", kill_leader),
            Fault("one of three RabbitMQ pods cut off from the others, the leader", "Broker", cut_leader_off),
        ),
    ),
    Group(
        ClusterOptions(is_previous=True),
        (
            Fault("upgraded: CRDs first, then the release", "Upgrade", upgrade(crds_first=True)),
            Fault("rolled back: the release first, then CRDs", "Upgrade", roll_back(crds_first=False)),
            Fault("upgraded: the release first, then CRDs", "Upgrade", upgrade(crds_first=False)),
            Fault("rolled back: CRDs first, then the release", "Upgrade", roll_back(crds_first=True)),
        ),
        UPGRADE_PACE,
    ),
)
