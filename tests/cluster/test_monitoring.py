"""What can be seen from outside: metrics of operator and API, and what kubectl prints."""

from collections import Counter

from tests.support.cluster import RELEASE, Cluster, build_queue
from tests.support.waiting import eventually_sync


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


def test_kubectl_shows_what_a_queue_does_and_why(cluster: Cluster) -> None:
    name = cluster.apply(build_queue("shown", {"replicas": 1}))
    cluster.wait_ready(name, 1)
    table = cluster.kubectl("get", "tq", name)
    assert table.splitlines()[0].split() == ["NAME", "REPLICAS", "DESIRED", "READY", "WAITING", "MODE", "AGE"]
    assert table.splitlines()[1].split()[:6] == [name, "1", "1", "1", "0", "Active"]
    described = cluster.kubectl("describe", "tq", name)
    for word in ("MetricsAvailable", "WorkersHealthy", "ScalingActive", "ScaledUp", "Pinned"):
        assert word in described
    cluster.delete(name)
