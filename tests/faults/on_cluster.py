"""`python -m tests.faults.on_cluster`: the kill matrix on the one-node Kubernetes, accounted task by task.

Writes tests/faults/results/cluster.json after each cell. Exit code 1 when a promise was broken.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from benchmarks.figures import describe_machine
from tests.faults.cluster_ground import ClusterGround, open_cluster_ground
from tests.faults.generator import QUEUE
from tests.faults.results import Cell, Place, save_cells
from tests.faults.striking import Fault, Field, Pace, Strike, run_cell
from tests.support.cluster import RELEASE, Json

COMMAND = "make faults-cluster"
OUTAGE_SECONDS = 20.0  # of what nobody but us starts again: API server, kubelet
HUNGRY_MEBIBYTES = 1024  # twice a worker's limit
PACE = Pace(before=120, after=80, per_second=25.0, settle_seconds=240.0)


@dataclass(frozen=True)
class Pod:
    """A pod of the installation, found anew each time."""

    part: str
    name: str
    find: Callable[[ClusterGround], Json]


def _component(name: str) -> Callable[[ClusterGround], Json]:
    return lambda ground: ground.cluster.find("pods", f"app.kubernetes.io/component={name}")[0]


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


FAULTS = (
    *(
        fault
        for pod in PODS
        for fault in (
            Fault(f"{pod.name} killed (kill -9)", pod.part, _kill(pod)),
            Fault(f"{pod.name} deleted", pod.part, _delete(pod)),
        )
    ),
    Fault("a task beyond its pod's memory limit", "Worker", starve),
    Fault("Kubernetes API server killed, back after 20 s", "Kubernetes", _stop("kube-apiserver")),
    Fault("kubelet killed, back after 20 s", "Kubernetes", _stop("kubelet")),
)


def main() -> int:
    """Run what is asked for on one installation."""
    parser = argparse.ArgumentParser(prog="tests.faults.on_cluster", description=__doc__)
    parser.add_argument("--only", default="", help="only faults whose name holds this text")
    options = parser.parse_args()
    machine, order = describe_machine(), [fault.name for fault in FAULTS]
    chosen = [fault for fault in FAULTS if options.only in fault.name]
    broken, loads = [], [os.getloadavg()[0]]
    with open_cluster_ground() as ground:
        for fault in chosen:
            ground.wait_whole()
            cell = _run(ground, fault)
            loads.append(os.getloadavg()[0])
            if cell is None or not cell.holds:
                broken.append(fault.name)
            if cell is not None:
                during = f"{machine} While it ran: {min(loads):.0f} to {max(loads):.0f}."
                save_cells(Place.CLUSTER, [cell], command=COMMAND, machine=during, order=order)
    for name in broken:
        _say(f"BROKEN: {name}")
    return 1 if broken else 0


def _run(ground: ClusterGround, fault: Fault) -> Cell | None:
    try:
        found, account = run_cell(ground, fault, PACE, 0)
    except AssertionError as error:
        _say(f"{fault.name}: could not be brought to an end: {error!r}")
        return None
    cell = replace(found, place=Place.CLUSTER)
    _say(f"{fault.name}: {account}\n  recovered in {cell.recovery_seconds} s, settled in {cell.settled_seconds} s")
    return cell


def _say(text: str) -> None:
    sys.stdout.write(time.strftime("%H:%M:%S ") + text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
