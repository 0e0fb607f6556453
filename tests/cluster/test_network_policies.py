"""The chart's NetworkPolicies where an agent enforces them: all that Taskfleet needs goes on, and nobody else gets in.

`make cluster-network-policies` runs it: the agent is compiled, and the installation has every optional part.
"""

import json
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.cluster import (
    APP_IMAGE,
    RELEASE,
    VALUES,
    Cluster,
    Json,
    Load,
    build_queue,
    open_cluster,
    running_cluster,
)
from tests.support.policy_agent import running_policy_agent
from tests.support.reachability import Target, find_open
from tests.support.waiting import eventually_sync

PORTS = {
    "api": {"http": 8000},
    "operator": {"metrics": 8080, "probes": 8081},
    "rabbitmq": {"amqp": 5672, "management": 15672, "metrics": 15692, "epmd": 4369, "distribution": 25672},
    "valkey": {"valkey": 6379},
    "postgresql": {"postgresql": 5432},
    "flower": {"http": 5555},
}
WORKERS = {"worker", "worker elsewhere"}
CALLERS = {*PORTS, *WORKERS, "stranger", "stranger elsewhere", "impostor elsewhere", "monitoring"}
# Who gets in, by target; the kubelet, which is no pod, always does.
NEEDED = {
    "api http": CALLERS,
    "operator metrics": {"monitoring"},
    "operator probes": set(),
    "rabbitmq amqp": {"api", "operator", "flower", *WORKERS},
    "rabbitmq management": {"api", "operator", "flower"},
    "rabbitmq metrics": {"api", "operator", "monitoring"},
    "rabbitmq epmd": {"rabbitmq"},
    "rabbitmq distribution": {"rabbitmq"},
    "valkey valkey": {"api", "operator", *WORKERS},
    "postgresql postgresql": {"api"},
    "flower http": CALLERS,
}
METRICS = {"operator metrics": CALLERS, "rabbitmq metrics": CALLERS}
WATCHES = {"taskfleet.dev/watches": "metrics"}
ENFORCED_SECONDS = 60
NODES = 3
OPTIONS: Json = {
    "operator": {**VALUES["operator"], "scope": "cluster"},  # for the TaskQueue elsewhere
    "rabbitmq": {**VALUES["rabbitmq"], "replicas": NODES, "userPerQueue": True},
    "flower": {"enabled": True},
    "networkPolicy": {"metricsFrom": [{"namespaceSelector": {"matchLabels": WATCHES}}]},
}


@dataclass
class Site:
    """The installation, and a namespace of somebody else's with a TaskQueue in it."""

    cluster: Cluster
    elsewhere: Cluster
    callers: dict[str, Json]  # running pods

    def list_targets(self) -> dict[str, Target]:
        """Every port of every part, at its last pod and, as "... service", at the address of its Service."""
        targets = {}
        for part, ports in PORTS.items():
            pod = find_pods(self.cluster, part)[-1]
            service = self.cluster.get("service", f"{RELEASE}-{part}")["spec"]
            served = {port["targetPort"]: port["port"] for port in service["ports"]}
            for name, port in ports.items():
                targets[f"{part} {name}"] = (pod["status"]["podIP"], port)
                if name in served:
                    targets[f"{part} {name} service"] = (service["clusterIP"], served[name])
        return targets

    def find_open(self) -> dict[str, set[str]]:
        """For each target the callers that reach it now; a pod's words to itself are left out: no policy meets them."""
        parts = {part: find_pods(self.cluster, part)[0] for part in PORTS}
        found = find_open(self.cluster, self.callers | parts, self.list_targets())
        return {target: callers - find_itself(target) for target, callers in found.items()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Installed while an agent enforces policies, so that nothing has come up without them."""
    environment = open_cluster()
    if environment["TASKFLEET_CLUSTER"] != "one-node":
        pytest.skip("gives the one-node cluster an agent, and looks into its pods' networks")
    with running_policy_agent(environment, tmp_path_factory.mktemp("agent")), running_cluster(**OPTIONS) as cluster:
        namespaces = {name: f"d-test-{uuid.uuid4().hex[:6]}" for name in ("elsewhere", "monitoring")}
        try:
            yield populate(cluster, namespaces)
        finally:
            for name in namespaces.values():
                cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def populate(cluster: Cluster, namespaces: dict[str, str]) -> Site:
    """Pods that have no business with Taskfleet, or only say so, and a worker here and there."""
    for name, labels in ((namespaces["elsewhere"], {}), (namespaces["monitoring"], WATCHES)):
        metadata = {"name": name, "labels": {"taskfleet.dev/test": "cluster", **labels}}
        cluster.kubectl(
            "apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        )
    elsewhere = Cluster(cluster.environment, namespaces["elsewhere"])
    elsewhere.http, elsewhere.api = cluster.http, cluster.api
    (api, *_) = cluster.find("pods", "app.kubernetes.io/component=api")
    kept = {key: value for key, value in api["metadata"]["labels"].items() if key != "pod-template-hash"}
    callers = {
        "stranger": start_pod(cluster, cluster.namespace, "stranger"),
        "stranger elsewhere": start_pod(cluster, elsewhere.namespace, "stranger"),
        "impostor elsewhere": start_pod(cluster, elsewhere.namespace, "impostor", kept),
        "monitoring": start_pod(cluster, namespaces["monitoring"], "monitoring"),
    }
    for caller, where in (("worker", cluster), ("worker elsewhere", elsewhere)):
        name = where.apply(build_queue(f"steady-{where.namespace}", {"minReplicas": 1}))
        where.wait_ready(name, 1)
        callers[caller] = where.pods(name)[0]
    return Site(cluster, elsewhere, callers)


def find_pods(cluster: Cluster, part: str) -> list[Json]:
    """The pods of a part that are not on their way out, by name."""
    pods = cluster.find("pods", f"app.kubernetes.io/component={part}")
    there = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return sorted(there, key=lambda pod: str(pod["metadata"]["name"]))


def find_itself(target: str) -> set[str]:
    """The caller that may be the target: of the broker alone there are several pods, and a Service may choose any."""
    part, *rest = target.split()
    return set() if part == "rabbitmq" and "service" not in rest else {part}


def start_pod(cluster: Cluster, namespace: str, name: str, labels: dict[str, str] | None = None) -> Json:
    """A pod that does nothing."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "idle", "image": APP_IMAGE, "imagePullPolicy": "IfNotPresent", "securityContext": security}
    spec: dict[str, Any] = {
        "containers": [{**container, "command": ["sleep", "infinity"]}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
    }
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}
    cluster.kubectl("-n", namespace, "apply", "-f", "-", text=json.dumps(manifest))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=90s")
    return dict(json.loads(cluster.kubectl("-n", namespace, "get", "pod", name, "-o", "json")))


def test_a_queue_wakes_works_and_sleeps(site: Site) -> None:
    name = site.cluster.apply(build_queue("guarded", {"maxReplicas": 1}))
    load = site.cluster.submit(name, 8, 1)
    assert site.cluster.wait_done(load) == Counter(succeeded=8)
    site.cluster.wait_asleep(name)
    site.cluster.delete(name)


def test_a_queue_in_another_namespace_works(site: Site) -> None:
    load = site.elsewhere.submit(f"steady-{site.elsewhere.namespace}", 4, 0.1)
    assert site.elsewhere.wait_done(load) == Counter(succeeded=4)


def test_a_task_that_takes_its_worker_along_is_dead_and_comes_back(site: Site) -> None:
    cluster = site.cluster
    name = cluster.apply(build_queue("deadly", {"minReplicas": 1}, {"limit": 1}, concurrency=1))
    cluster.wait_ready(name, 1)
    load = cluster.submit(name, 1, 20)
    (task,) = load.ids
    for killed in (0, 1):
        kill_worker(cluster, name, load, killed)
    assert cluster.api.wait(task, "dead", timeout_seconds=90)
    assert cluster.api.request("POST", f"/queues/{name}/dead:redrive").status_code in (200, 202)
    assert cluster.api.wait(task, "succeeded", timeout_seconds=120)
    cluster.delete(name)


def kill_worker(cluster: Cluster, name: str, load: Load, killed: int) -> None:
    """kill -9 of the queue's one worker once it runs the load's one task, after it was killed so often."""

    def find_at_work() -> Json | None:
        (pod,) = cluster.pods(name)
        (container,) = pod["status"]["containerStatuses"]
        is_up = container["restartCount"] == killed and "running" in container["state"]
        return pod if is_up and cluster.read_runs(load).started.total() == killed + 1 else None

    cluster.kill_container(eventually_sync(find_at_work, 90, 0.3))


def test_the_brokers_nodes_have_found_one_another(site: Site) -> None:
    command = ["rabbitmqctl", "--quiet", "cluster_status", "--formatter", "json"]
    status = json.loads(site.cluster.kubectl("exec", f"{RELEASE}-rabbitmq-0", "-c", "rabbitmq", "--", *command))
    assert len(status["running_nodes"]) == NODES


def test_helm_test_passes(site: Site) -> None:
    site.cluster.helm("test", RELEASE, "--timeout", "2m")


def test_each_port_is_open_to_who_needs_it_and_to_nobody_else(site: Site) -> None:
    wait_open(site, NEEDED)


def test_without_metrics_from_every_pod_reads_metrics_and_nothing_else(site: Site) -> None:
    site.cluster.install(**OPTIONS | {"networkPolicy": {}})
    wait_open(site, NEEDED | METRICS)


def test_without_policies_every_port_is_open_to_everybody(site: Site) -> None:
    """What was closed before was closed by a policy, and by nothing else."""
    site.cluster.install(**OPTIONS | {"networkPolicy": {"enabled": False}})
    wait_open(site, dict.fromkeys(NEEDED, CALLERS))


def wait_open(site: Site, expected: dict[str, set[str]]) -> None:
    """Return once each target takes who it should, by its own address and its Service's, and nobody else."""

    def is_as_expected() -> bool:
        found = site.find_open()
        right = {target: expected[target.removesuffix(" service")] - find_itself(target) for target in found}
        wrong = {
            target: {"missing": sorted(right[target] - callers), "not expected": sorted(callers - right[target])}
            for target, callers in found.items()
            if callers != right[target]
        }
        assert not wrong, json.dumps(wrong, indent=1)
        return True

    eventually_sync(is_as_expected, ENFORCED_SECONDS, 1)
