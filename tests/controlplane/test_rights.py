"""The rights that the chart gives to the operator: enough in both scopes, and none that is not used."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.controlplane.operators import OperatorProcess, get_condition
from tests.controlplane.rights import bind_rights, render_rules
from tests.controlplane.samples import build_task_queue, create, queue_path
from tests.support.brokers import Valkey
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually_sync

MERGE = "application/merge-patch+json"
SECONDS = 30
PODS = "/api/v1/namespaces/{}/pods"

APPLIED = {"configmaps", "deployments", "poddisruptionbudgets", "secrets", "serviceaccounts"}

# Granted and not seen in an ordinary life, each for its reason.
RARE = {
    ("", "configmaps", "delete"),  # OpenShift asks for it when owners change; nothing is deleted
    ("", "secrets", "get"),  # one that a TaskQueue names for its broker: see test_states
    ("taskfleet.dev", "taskqueues", "get"),  # after a conflict on the status
    ("taskfleet.dev", "taskqueuepolicies/status", "update"),  # where there is a policy: see test_fleet
}


def list_rights(rules: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Rules as (group, resource, verb)."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def list_uses(entries: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Audited requests as (group, resource, verb)."""
    uses = set()
    for entry in entries:
        target = entry["objectRef"]
        resource = "/".join(part for part in (target["resource"], target.get("subresource")) if part)
        uses.add((target.get("apiGroup", ""), resource, entry["verb"]))
    return uses


def make_pod(plane: ControlPlane, namespace: str, queue: str, number: int) -> str:
    """A worker pod that is Ready, as kubelet and controllers would make it."""
    deployment = plane.request("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/{queue}-worker")
    template = deployment["spec"]["template"]
    name = f"{queue}-worker-{number}"
    pod = {"metadata": {"name": name, "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    plane.request("POST", PODS.format(namespace), pod)
    ready = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    plane.request("PATCH", f"{PODS.format(namespace)}/{name}/status", ready, "application/strategic-merge-patch+json")
    return name


@pytest.fixture
def life(control_plane: ControlPlane, operator: OperatorProcess, namespace: str) -> Iterator[None]:
    """A TaskQueue's life with everything that an operator does."""
    queue = build_task_queue(namespace, "life", scaling={"replicas": 2})
    queue["metadata"]["annotations"] = {"taskfleet.dev/max-unavailable": "50%"}
    create(control_plane, queue)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/life-worker"
    eventually_sync(lambda: (control_plane.find(path) or {}).get("spec", {}).get("replicas") == 2, SECONDS)
    pods = [make_pod(control_plane, namespace, "life", number) for number in range(2)]
    change = {
        "metadata": {"annotations": {"taskfleet.dev/max-unavailable": None}},
        "spec": {"scaling": {"replicas": 1}},
    }
    control_plane.request("PATCH", queue_path(namespace, "life"), change, MERGE)
    eventually_sync(lambda: control_plane.request("GET", path)["spec"]["replicas"] == 1, SECONDS)
    costs = [
        control_plane.request("GET", f"{PODS.format(namespace)}/{pod}")["metadata"].get("annotations", {})
        for pod in pods
    ]
    assert [cost.get("controller.kubernetes.io/pod-deletion-cost") for cost in costs].count("-1000") == 1
    yield
    for pod in pods:
        control_plane.request("DELETE", f"{PODS.format(namespace)}/{pod}?gracePeriodSeconds=0")


@pytest.mark.usefixtures("life")
def test_one_namespace_uses_all_its_rights_and_no_more(control_plane: ControlPlane, namespace: str) -> None:
    """With a Role alone everything works, and each right of the Role is used."""
    rules, lease_rules = render_rules("namespace")
    granted = list_rights(rules) | list_rights(lease_rules)
    account = f"system:serviceaccount:{namespace}:operator"

    def read() -> list[dict[str, Any]]:
        return [entry for entry in control_plane.read_audit(namespace) if entry["user"]["username"] == account]

    eventually_sync(lambda: ("coordination.k8s.io", "leases", "update") in list_uses(read()), SECONDS)  # it is renewed
    mine = read()
    assert [e for e in mine if e.get("responseStatus", {}).get("code") == 403] == []
    uses = list_uses(mine)
    # Server-side apply that creates is audited as `patch`, and Kubernetes asks for `create` as well.
    uses |= {(group, resource, "create") for group, resource, verb in uses if verb == "patch" and resource in APPLIED}
    assert uses - granted == set()
    assert granted - uses - RARE == set()


def test_rights_are_the_same_in_both_scopes() -> None:
    """The ClusterRole is the Role for every namespace; nothing is granted by wildcard."""
    everywhere, here = (list_rights(render_rules(scope)[0]) for scope in ("cluster", "namespace"))
    assert everywhere == here
    assert not any("*" in right for right in everywhere)


def test_whole_cluster(control_plane: ControlPlane, valkey: Valkey, tmp_path: Path) -> None:
    """With the ClusterRole an operator serves TaskQueues of several namespaces; its Lease stays in its own."""
    home, first, second = (control_plane.make_namespace(prefix) for prefix in ("home", "one", "two"))
    kubeconfig = bind_rights(control_plane, home, cluster_wide=True)
    operator = OperatorProcess(control_plane, valkey, tmp_path, None, home, kubeconfig).start()
    try:
        for namespace in (first, second):
            create(control_plane, build_task_queue(namespace, f"of-{namespace}"))
        for namespace in (first, second):
            eventually_sync(
                lambda namespace=namespace: (
                    get_condition(control_plane, namespace, f"of-{namespace}").get("status") == "True"
                ),
                SECONDS,
            )
        text = control_plane.audit_log.read_text(encoding="utf-8")
        refused = [line for line in text.splitlines() if f":{home}:operator" in line and '"code":403' in line]
        assert refused == []
    finally:
        operator.kill()


def test_without_rights_it_is_not_ready_and_says_why(
    control_plane: ControlPlane, valkey: Valkey, tmp_path: Path
) -> None:
    """An account without any right: the probe tells what is forbidden, and the process waits for the right."""
    namespace = control_plane.make_namespace("poor")
    kubeconfig = control_plane.write_kubeconfig("poor", control_plane.make_account(namespace, "poor"))
    operator = OperatorProcess(control_plane, valkey, tmp_path, namespace, namespace, kubeconfig).start(wait=False)
    try:
        status, text = eventually_sync(
            lambda: answer if (answer := operator.probe("/readyz"))[1].count("forbidden") else None, SECONDS, 0.1
        )
        assert status == 503
        assert "leases" in text
        assert operator.probe("/healthz")[0] == 200
    finally:
        operator.kill()
