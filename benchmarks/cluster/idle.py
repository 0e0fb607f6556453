"""What 300 idle TaskQueues cost one operator and the broker, and how soon it still reacts to a burst on one of them."""

import json
import time

from tests.support.cluster import RELEASE, Cluster
from tests.support.waiting import eventually_sync

from benchmarks.cluster.bursts import burst_queue, measure_burst
from benchmarks.cluster.processes import read_process
from benchmarks.cluster.sniffer import counting_requests
from benchmarks.figures import Figure, say

__all__ = ["measure_idle"]

QUEUES = 300
WINDOW_SECONDS = 15.0
SETTLE_SECONDS = 400
BROKER_PORTS = {15672, 15692}


def measure_idle(cluster: Cluster, rounds: int) -> list[Figure]:
    """Apply the queues, look at the operator for a while, then send bursts to one of them."""
    names = [f"idle-{number:03d}" for number in range(QUEUES)]
    manifests = [burst_queue(name) for name in names]
    began = time.monotonic()
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    cluster.kubectl("create", "-f", "-", text=listed, timeout_seconds=SETTLE_SECONDS)
    eventually_sync(lambda: _count_ready(cluster) >= QUEUES, SETTLE_SECONDS, 2)
    say(f"{QUEUES} TaskQueues are taken up after {time.monotonic() - began:.0f} s")
    eventually_sync(lambda: cluster.api.request("GET", f"/queues/{names[-1]}").status_code == 200, SETTLE_SECONDS, 1)
    requests, everybody, cpu, memory = [], [], [], []
    (operator,) = cluster.find("pods", "app.kubernetes.io/component=operator")
    (broker,) = cluster.find("pods", "app.kubernetes.io/component=rabbitmq")
    _wait_calm(cluster)
    for _ in range(rounds):
        before = _read_operator(cluster)
        with counting_requests(broker["status"]["podIP"], BROKER_PORTS) as counts:
            time.sleep(WINDOW_SECONDS)  # the measured window itself
        after = _read_operator(cluster)
        seconds = after["at"] - before["at"]
        requests.append(counts.by_sender[operator["status"]["podIP"]] / WINDOW_SECONDS)
        everybody.append(counts.requests / WINDOW_SECONDS)
        cpu.append((after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]) / seconds * 100)
        memory.append(after["process_resident_memory_bytes"] / 2**20)
        rates = f"{requests[-1]:.2f} of {everybody[-1]:.2f} HTTP requests/s at the broker"
        say(f"idle: {rates}, CPU {cpu[-1]:.1f} %, RSS {memory[-1]:.0f} MiB")
    bursts = [measure_burst(cluster, names[QUEUES // 2], tasks=20) for _ in range(rounds)]
    cluster.kubectl("delete", "taskqueue", *names, "--wait=false")
    what = f"{QUEUES} idle TaskQueues"
    return [
        Figure(f"{what}: the operator's HTTP requests to the broker", "1/s", requests, at_most=2, digits=2),
        Figure("... with those of one API replica", "1/s", everybody, digits=2),
        Figure(f"{what}: operator's CPU", "% of a core", cpu, at_most=5, digits=1),
        Figure(f"{what}: operator's memory (RSS)", "MiB", memory, at_most=200),
        Figure(
            f"{what}: a burst on one, first change of replicas",
            "s",
            [burst.first_scale for burst in bursts],
            at_most=2,
            digits=2,
        ),
    ]


def _count_ready(cluster: Cluster) -> int:
    ready = 0
    for item in cluster.find("taskqueue"):
        conditions = (item.get("status") or {}).get("conditions", [])
        ready += any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready


def _read_operator(cluster: Cluster) -> dict[str, float]:
    address = cluster.get("service", f"{RELEASE}-operator")["spec"]["clusterIP"]
    return read_process(f"{address}:8080")


def _wait_calm(cluster: Cluster) -> None:
    """Return once the work of taking the queues up is over."""

    def probe() -> bool:
        before = _read_operator(cluster)
        time.sleep(3)  # a window to compare over
        after = _read_operator(cluster)
        used = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
        return used / (after["at"] - before["at"]) < 0.10

    try:
        eventually_sync(probe, 60)
    except AssertionError:
        say("the operator is still busy after a minute; measuring all the same")
