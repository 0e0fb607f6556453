"""What a hundred queues with nothing to do cost: until all are taken up, and then at the broker and in the operator."""

import json
import time

import httpx
from tests.support.cluster import CommandError, run

from benchmarks.cluster.processes import read_process
from benchmarks.cluster.sniffer import counting_requests
from benchmarks.keda.installing import NAMESPACE
from benchmarks.keda.peers import Peer, Shape
from benchmarks.keda.setting import Setting

__all__ = ["measure_idle_queues"]

QUEUES = 100
SETTLE_SECONDS, WINDOW_SECONDS = 10.0, 15.0
BROKER_PORTS = {15672, 15692}


def measure_idle_queues(setting: Setting, peer: Peer, queue: str) -> dict[str, float | None]:
    """Create, wait until every one is Ready, look for a while, delete."""
    names = [f"{queue}-{number:03d}" for number in range(QUEUES)]
    before = _count_connections(setting)
    began = time.monotonic()
    try:
        peer.create(names, Shape())
        ready = time.monotonic() - began
        time.sleep(SETTLE_SECONDS)  # what comes up is over
        operator = _find_operator(setting, peer)
        (broker,) = setting.cluster.find("pods", "app.kubernetes.io/component=rabbitmq")
        first = read_process(f"{operator}:8080")
        with counting_requests(broker["status"]["podIP"], BROKER_PORTS) as counts:
            time.sleep(WINDOW_SECONDS)  # the measured window itself
        last = read_process(f"{operator}:8080")
        seconds = last["at"] - first["at"]
        return {
            "ready": ready,
            "connections": float(_count_connections(setting) - before),
            "requests": counts.by_sender[operator] / WINDOW_SECONDS,
            "cpu": 100 * (last["process_cpu_seconds_total"] - first["process_cpu_seconds_total"]) / seconds,
            "memory": last["process_resident_memory_bytes"] / 2**20,
        }
    finally:
        peer.delete(names)


def _find_operator(setting: Setting, peer: Peer) -> str:
    """The address of the pod that does the scaling."""
    if peer.name == "taskfleet":
        (pod,) = setting.cluster.find("pods", "app.kubernetes.io/component=operator")
        return str(pod["status"]["podIP"])
    command = ["kubectl", "-n", NAMESPACE, "get", "pods", "-l", "app=keda-operator", "-o", "json"]
    items = json.loads(run(command, setting.cluster.environment))["items"]
    running = [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]
    if len(running) != 1:
        raise CommandError(f"{len(running)} KEDA operators")
    return str(running[0]["status"]["podIP"])


def _count_connections(setting: Setting) -> int:
    answer = httpx.get(f"{setting.servers.management_url}/api/connections", timeout=30, trust_env=False)
    answer.raise_for_status()
    return len(answer.json())
