"""`python -m benchmarks.cluster.thousand`: 1,000 TaskQueues in 50 namespaces on one operator, with a real API server,
RabbitMQ 4.3 and Valkey. There is no kubelet: what is measured is what the operator writes, not how pods start.

Exit code 1 when a figure misses its bound. `--write` puts the table into docs/benchmarks.md.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from kombu import Connection
from tests.controlplane.operators import OperatorProcess
from tests.controlplane.rights import bind_rights
from tests.controlplane.samples import build_task_queue, queue_path
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.controlplane import ControlPlane
from tests.support.proxies import CountingProxy
from tests.support.waiting import eventually_sync

from benchmarks.figures import Figure, build_table, describe_machine, say, write_page
from taskfleet_core import wire

NAMESPACES = 50
TASKS = 20
CLIENTS = 4
LIMIT_SECONDS = 400
Item = dict[str, Any]


class Watch:
    """Follows all objects of a kind in a thread; `seen` says when `test` first held, by (namespace, name)."""

    def __init__(self, plane: ControlPlane, path: str, test: Callable[[Item], bool]) -> None:
        self.seen: dict[tuple[str, str], float] = {}
        self._test = test
        self._connection = HTTPSConnection("127.0.0.1", plane.port, context=plane.ssl_context)
        self._connection.request("GET", f"{path}?watch=true&timeoutSeconds=3000")
        self._response = self._connection.getresponse()
        threading.Thread(target=self._follow, daemon=True).start()

    def wait(self, places: list[tuple[str, str]]) -> None:
        """Until it has held for all of these."""
        told = time.monotonic()
        while not all(place in self.seen for place in places):
            now = time.monotonic()
            if now - told > 15:
                told = now
                say(f"{sum(place in self.seen for place in places)} of {len(places)}")
            time.sleep(0.1)

    def _follow(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed
            while line := self._response.readline():
                item = json.loads(line)["object"]
                place = (item["metadata"]["namespace"], item["metadata"]["name"])
                if place not in self.seen and self._test(item):
                    self.seen[place] = time.monotonic()


def is_ready(item: Item) -> bool:
    """A TaskQueue whose children are there and whose queue stands at the broker."""
    found = (item.get("status") or {}).get("conditions", ())
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in found)


def create_all(plane: ControlPlane, queues: list[Item]) -> None:
    """Create TaskQueues as fast as the API server takes them."""

    def create(part: list[Item]) -> None:
        connection = HTTPSConnection("127.0.0.1", plane.port, context=plane.ssl_context)
        for queue in part:
            body, path = json.dumps(queue), queue_path(queue["metadata"]["namespace"])
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 201, text
        connection.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(create, (queues[number::CLIENTS] for number in range(CLIENTS))))


@contextlib.contextmanager
def running(server: Any) -> Iterator[Any]:
    """A server for as long as the block."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.asynccontextmanager
async def operating(plane: ControlPlane, rabbit: RabbitMQ, valkey: Valkey) -> AsyncIterator[tuple[Any, Any]]:
    """An operator of the whole cluster, and a function that counts its requests to the broker."""
    home = plane.make_namespace("operator")
    kubeconfig = bind_rights(plane, home, cluster_wide=True)
    async with CountingProxy(rabbit.metrics_port) as metrics, CountingProxy(rabbit.management_port) as api:
        environment = {
            "TASKFLEET_OPERATOR_BROKER_URL": rabbit.url,
            "TASKFLEET_OPERATOR_BROKER_MANAGEMENT_URL": f"http://guest:guest@127.0.0.1:{api.port}",
            "TASKFLEET_OPERATOR_BROKER_METRICS_URL": f"http://127.0.0.1:{metrics.port}",
        }
        with tempfile.TemporaryDirectory() as folder:
            operator = OperatorProcess(
                plane, valkey, Path(folder), None, home, kubeconfig, lease_seconds=60, environment=environment
            )
            await asyncio.to_thread(operator.start)
            try:
                yield operator, lambda: metrics.requests + api.requests
            finally:
                operator.kill()


def count_api_requests(plane: ControlPlane) -> int:
    """Requests of ServiceAccounts, which is the operator alone, that the API server has answered so far."""
    text = plane.audit_log.read_text(encoding="utf-8")
    return sum("system:serviceaccount:" in line for line in text.splitlines())


def settle(operator: OperatorProcess) -> None:
    """Wait until the work of taking the queues up is over."""

    def is_calm() -> bool:
        before = operator.read_metric("process_cpu_seconds_total")
        time.sleep(3)  # a window to compare over
        after = operator.read_metric("process_cpu_seconds_total")
        return before is not None and after is not None and after - before < 3 * 0.2

    with contextlib.suppress(AssertionError):  # then it is measured as it is
        eventually_sync(is_calm, 90)


def read_figure(operator: OperatorProcess, name: str) -> float:
    """One of the process's own metrics; one that is busy may not answer at once."""
    return eventually_sync(lambda: operator.read_metric(name), 60)


def measure_idle(
    plane: ControlPlane, operator: OperatorProcess, requests: Callable[[], int], rounds: int
) -> list[Figure]:
    """CPU, memory and requests while nothing happens."""
    columns: list[list[float]] = [[], [], [], []]
    for _ in range(rounds):
        began = time.monotonic()
        broker, api, cpu = requests(), count_api_requests(plane), read_figure(operator, "process_cpu_seconds_total")
        time.sleep(20)  # the measured window itself
        used = read_figure(operator, "process_cpu_seconds_total") - cpu
        seconds = time.monotonic() - began
        memory = read_figure(operator, "process_resident_memory_bytes") / 2**20
        row = (
            used / seconds * 100,
            memory,
            (requests() - broker) / seconds,
            (count_api_requests(plane) - api) / seconds,
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
        rates = f"{row[2]:.2f} requests/s at the broker, {row[3]:.2f} at the API server"
        say(f"idle: CPU {row[0]:.1f} %, RSS {row[1]:.0f} MiB, {rates}")
    return [
        Figure("idle: operator's CPU", "% of a core", columns[0], at_most=15, digits=1),
        Figure("idle: operator's memory (RSS)", "MiB", columns[1], at_most=300),
        Figure("idle: requests to the broker", "1/s", columns[2], at_most=1.5, digits=2),
        Figure("idle: requests to the API server", "1/s", columns[3], at_most=1, digits=2),
    ]


def measure_bursts(
    plane: ControlPlane, rabbit: RabbitMQ, valkey: Valkey, places: list[list[tuple[str, str]]]
) -> Figure:
    """Each round sends tasks to a hundred sleeping queues at a time; until the Deployment's replicas are written."""
    watch = Watch(plane, "/apis/apps/v1/deployments", lambda item: item["spec"].get("replicas", 0) > 0)
    worst = []
    for round_places in places:
        sent: dict[tuple[str, str], float] = {}
        with Connection(rabbit.url) as connection:
            producer = connection.Producer()
            for namespace, name in round_places:
                sent[(namespace, name)] = time.monotonic()
                for number in range(TASKS):
                    producer.publish({"n": number}, exchange="", routing_key=name, delivery_mode=2)
                valkey.command("PUBLISH", wire.WAKE_CHANNEL, name)  # as the API does for a queue without workers
        last = time.monotonic() - min(sent.values())
        watch.wait([(space, f"{name}-worker") for space, name in round_places])
        waits = sorted(watch.seen[(space, f"{name}-worker")] - sent[(space, name)] for space, name in round_places)
        worst.append(waits[-2] if len(waits) >= 100 else waits[-1])
        say(f"{len(waits)} bursts within {last:.1f} s: median {statistics.median(waits):.2f} s, p99 {worst[-1]:.2f} s")
        time.sleep(5)  # the next hundred is a round of its own
    return Figure("100 bursts at a time: replicas written, p99", "s", worst, at_most=2, digits=2)


async def measure(count: int, rounds: int) -> list[Figure]:
    """All figures."""
    rabbit, valkey, plane = RabbitMQ("4.3"), Valkey(), ControlPlane()
    with running(plane), running(rabbit), running(valkey):
        spaces = [plane.make_namespace("many") for _ in range(NAMESPACES)]
        queues = [build_task_queue(spaces[number % NAMESPACES], f"queue-{number:04}") for number in range(count)]
        places = [(queue["metadata"]["namespace"], queue["metadata"]["name"]) for queue in queues]
        async with operating(plane, rabbit, valkey) as (operator, requests):
            watch = Watch(plane, "/apis/taskfleet.dev/v1alpha1/taskqueues", is_ready)
            began = time.monotonic()
            await asyncio.to_thread(create_all, plane, queues)
            created = time.monotonic() - began
            say(f"{count} TaskQueues created within {created:.1f} s")
            async with asyncio.timeout(LIMIT_SECONDS):
                await asyncio.to_thread(watch.wait, places)
            ready = max(watch.seen.values()) - began
            say(f"all Ready after {ready:.1f} s; {count_api_requests(plane)} requests to the API server so far")
            figures = [
                Figure(f"{count} TaskQueues created, by four clients", "s", [created], digits=1),
                Figure("... until all are Ready, their queues at the broker", "s", [ready], at_most=60, digits=1),
                Figure("... requests to the API server for each", "", [count_api_requests(plane) / count], digits=1),
            ]
            await asyncio.to_thread(settle, operator)
            figures += await asyncio.to_thread(measure_idle, plane, operator, requests, rounds)
            # One of each two queues of a round is in another namespace; none bursts twice.
            chosen = [places[number * 100 : (number + 1) * 100] for number in range(min(rounds, count // 100))]
            figures.append(await asyncio.to_thread(measure_bursts, plane, rabbit, valkey, chosen))
    return figures


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster.thousand", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="TaskQueues (default 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of idling and of bursts (default 5)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    machine = describe_machine()
    figures = asyncio.run(measure(options.count, options.rounds))
    text = f"{machine}\n\n{build_table(figures)}"
    print(f"\n{text}")
    if options.write:
        write_page("thousand", f"`python -m benchmarks.cluster.thousand --rounds {options.rounds}`, {text}")
    return 1 if any(figure.is_met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
