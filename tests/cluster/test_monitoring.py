"""What can be seen from outside: metrics of operator and API, and what kubectl prints."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from tests.dashboards.expressions import find_unanswered
from tests.support.cluster import RELEASE, Cluster, build_queue
from tests.support.processes import free_port, start_process
from tests.support.prometheus import Prometheus
from tests.support.waiting import eventually_sync

ANSWER_SECONDS = 180


def scrape(cluster: Cluster, component: str, port: str) -> str:
    """The metrics of a Service, as Prometheus sees them."""
    path = f"/api/v1/namespaces/{cluster.namespace}/services/{RELEASE}-{component}:{port}/proxy/metrics"
    return cluster.kubectl("get", "--raw", path)


def test_queue_depth_and_replicas_are_in_the_operators_metrics(cluster: Cluster) -> None:
    name = cluster.apply(build_queue("seen", {"maxReplicas": 1}, concurrency=1))
    load = cluster.submit(name, 6, 1)
    labels = f'namespace="{cluster.namespace}",queue="{name}"'

    def find(metric: str, more: str = "") -> float | None:
        lines = scrape(cluster, "operator", "metrics").splitlines()
        head = f"{metric}{{{labels}{more}}} "
        return next((float(line.removeprefix(head)) for line in lines if line.startswith(head)), None)

    eventually_sync(lambda: find("taskfleet_queue_messages", ',state="ready"'), 60, 0.3)
    eventually_sync(lambda: find("taskfleet_workers_desired") == 1, 60, 0.3)
    assert cluster.wait_done(load) == Counter(succeeded=6)
    eventually_sync(lambda: find("taskfleet_queue_messages", ',state="ready"') == 0, 30, 0.3)
    assert "taskfleet_api" in scrape(cluster, "api", "http")
    cluster.delete(name)


def forward(cluster: Cluster, component: str, port: int, closing: ExitStack) -> str:
    """An address on this machine for a Deployment's port: Prometheus runs here, the pods may be anywhere."""
    address = f"127.0.0.1:{free_port()}"
    command = ["kubectl", "-n", cluster.namespace, "port-forward", f"deployment/{RELEASE}-{component}"]

    def answers() -> bool:
        try:
            return httpx.get(f"http://{address}/metrics", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    process = start_process(
        [*command, f"{address.rpartition(':')[2]}:{port}"], env=cluster.environment, ready=answers, timeout_seconds=60
    )
    closing.callback(process.kill)
    return address


def test_every_dashboard_and_rule_has_an_answer_under_load(cluster: Cluster, tmp_path: Path) -> None:
    """A real Prometheus scrapes API and operator of the cluster; no panel of any dashboard stays empty."""
    name = cluster.apply(build_queue("watched", {"maxReplicas": 2}))
    task = {"queue": name, "task": "jobs.record", "args": ["watched", 0.2]}
    missing: list[str] = []
    with ExitStack() as closing:
        targets = {part: forward(cluster, part, port, closing) for part, port in (("api", 8000), ("operator", 8080))}
        prometheus = Prometheus(tmp_path, targets)
        closing.callback(prometheus.stop)
        prometheus.start()

        def ask() -> bool:
            for _ in range(10):
                assert cluster.api.request("POST", "/tasks", json=task).status_code == 202
            chosen = {"namespace": cluster.namespace, "queue": name}
            missing[:] = find_unanswered(prometheus.url, chosen, window="15s")
            return not missing

        try:
            eventually_sync(ask, ANSWER_SECONDS, 1)
        except AssertionError as error:
            lines = [f"{error}; without an answer:", *missing, f"not scraped: {prometheus.list_down()}"]
            pytest.fail("\n".join(lines))
    cluster.delete(name)


def test_kubectl_shows_what_a_queue_does_and_why(cluster: Cluster) -> None:
    name = cluster.apply(build_queue("shown", {"replicas": 1}))
    cluster.wait_ready(name, 1)
    table = cluster.kubectl("get", "tq", name)
    columns = ["NAME", "STATUS", "REPLICAS", "DESIRED", "READY", "WAITING", "MODE", "AGE"]
    assert table.splitlines()[0].split() == columns
    assert table.splitlines()[1].split()[:7] == [name, "Reconciled", "1", "1", "1", "0", "Active"]
    described = cluster.kubectl("describe", "tq", name)
    for word in ("MetricsAvailable", "WorkersHealthy", "ScalingActive", "ScaledUp", "Pinned"):
        assert word in described
    cluster.delete(name)
