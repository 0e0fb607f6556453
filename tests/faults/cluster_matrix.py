"""All faults of the cluster, in the order of the page, by the installation that they need."""

from dataclasses import dataclass

from tests.faults import cluster_strikes as strike
from tests.faults.cluster_ground import ClusterOptions
from tests.faults.cluster_links import LINK_FAULTS
from tests.faults.scheduling import build_random
from tests.faults.striking import Fault, Pace
from tests.faults.upgrading import roll_back, upgrade

__all__ = ["GROUPS", "Group"]

PARTS = ("API", "Worker", "Broker", "Valkey", "Database", "Operator", "Kubernetes", "Network")  # as on the page
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


# Faults that may follow one another at once, and leave the node's own processes running.
POOL = (
    *(Fault(f"{pod.name} killed (kill -9)", pod.part, strike.kill(pod)) for pod in strike.PODS),
    *(Fault(f"{pod.name} deleted", pod.part, strike.delete(pod)) for pod in strike.PODS),
    Fault("worker's child processes killed, three times", "Worker", strike.kill_children),
    Fault("RabbitMQ's memory alarm", "Broker", strike.alarm_memory),
    Fault("RabbitMQ's disk alarm", "Broker", strike.alarm_disk),
    Fault("Valkey pod killed, its append-only file lost", "Valkey", strike.forget),
    Fault("Valkey flushed", "Valkey", strike.flush),
    *LINK_FAULTS,
)
OTHERS = (
    Fault("a task beyond its pod's memory limit", "Worker", strike.starve),
    Fault("Kubernetes API server killed, back after 20 s", "Kubernetes", strike.stop("kube-apiserver")),
    Fault("kubelet killed, back after 20 s", "Kubernetes", strike.stop("kubelet")),
)
RANDOM = tuple(build_random(number, POOL) for number in (1, 2))
GROUPS = (
    Group(ClusterOptions(), (*sorted((*POOL, *OTHERS), key=lambda fault: PARTS.index(fault.part)), *RANDOM)),
    Group(
        ClusterOptions(broker_nodes=NODES),
        (
            Fault("one of three RabbitMQ pods killed, a follower", "Broker", strike.kill_follower),
            Fault("one of three RabbitMQ pods killed, the leader", "Broker", strike.kill_leader),
            Fault("one of three RabbitMQ pods cut off from the others, the leader", "Broker", strike.cut_leader_off),
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
