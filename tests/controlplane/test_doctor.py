"""`taskfleet doctor --cluster` at a real API server: the CRD, the operator's rights, parts of a release, TaskQueues."""

import re
import shlex
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.controlplane.operators import OperatorProcess, get_condition
from tests.controlplane.samples import build_task_queue, create, queue_path
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually_sync

from taskfleet.diagnosis.cluster import check_cluster
from taskfleet.diagnosis.finding import Finding, Verdict
from taskfleet.diagnosis.rights import CRD

LABELS = {
    "app.kubernetes.io/part-of": "taskfleet",
    "app.kubernetes.io/component": "operator",
    "app.kubernetes.io/version": version("taskfleet"),
}


def check(
    plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch, kubeconfig: Path | None = None
) -> dict[str, list[Finding]]:
    """The findings by check, as the administrator or as whose kubeconfig it is."""
    monkeypatch.setenv("PATH", str(plane.binaries), prepend=":")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig or plane.kubeconfig))
    findings: dict[str, list[Finding]] = {}
    for finding in check_cluster(namespace):
        findings.setdefault(finding.check, []).append(finding)
    return findings


def make_operator(plane: ControlPlane, namespace: str, account: str, ready: int) -> None:
    """A Deployment that looks like the operator's, with so many ready pods."""
    labels = {"app": "operator"}
    served = {"name": "TASKFLEET_OPERATOR_NAMESPACE", "value": namespace}
    container = {"name": "operator", "image": "registry.example/operator", "env": [served]}
    body = {
        "metadata": {"name": "taskfleet-operator", "labels": LABELS},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"serviceAccountName": account, "containers": [container]},
            },
        },
    }
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    plane.request("POST", path, body)
    status = {"status": {"replicas": ready, "readyReplicas": ready}}
    plane.request("PATCH", f"{path}/taskfleet-operator/status", status, "application/merge-patch+json")


def test_a_release_at_work_has_no_problem(
    control_plane: ControlPlane, operator: OperatorProcess, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rights that it asks for are those that the chart gives; leader, clocks and packages are a real operator's."""
    make_operator(control_plane, namespace, "operator", ready=1)
    create(control_plane, build_task_queue(namespace))
    eventually_sync(lambda: get_condition(control_plane, namespace, "thumbnails"), 60)
    found = check(control_plane, namespace, monkeypatch)
    names = ("cluster", "crd", "admission", "cluster clock", "release", "leader", "operator rights", "your rights")
    assert {name: [finding.verdict for finding in found[name]] for name in names} == {
        name: [Verdict.OK] for name in names
    }, found
    assert operator.identity in found["leader"][0].detail
    assert "worker versions" in found
    assert not [finding for finding in found["taskqueues"] if namespace in finding.detail]


@pytest.mark.parametrize(
    ("seconds", "told"), [(-600, "has not renewed"), (600, "ahead of the API server's")], ids=["stale", "ahead"]
)
def test_a_lease_that_is_not_renewed_or_from_the_future_is_a_problem(
    seconds: float, told: str, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = control_plane.make_namespace("doctor")
    make_operator(control_plane, namespace, "default", ready=1)
    renewed = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="microseconds")
    spec = {"holderIdentity": "operator-1", "renewTime": renewed, "leaseDurationSeconds": 15}
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    control_plane.request("POST", path, {"metadata": {"name": "taskfleet-operator"}, "spec": spec})
    (leader,) = check(control_plane, namespace, monkeypatch)["leader"]
    assert leader.verdict is Verdict.PROBLEM
    assert told in leader.detail
    assert leader.fix


def test_a_caller_without_rights_is_told_what_to_ask_for(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is forbidden is no problem of the release. The fix, run as it is printed, gives what was missing."""
    namespace = control_plane.make_namespace("doctor")
    kubeconfig = control_plane.write_kubeconfig("nobody", control_plane.make_account(namespace, "nobody"))
    found = check(control_plane, namespace, monkeypatch, kubeconfig)
    problems = {name for name, items in found.items() for item in items if item.verdict is Verdict.PROBLEM}
    assert problems == {"your rights"}
    mine = found["your rights"][0]
    assert f"nobody lacks in default: get {CRD}" in mine.detail
    assert mine.fix
    (command,) = re.findall(r"`kubectl (.*)`", mine.fix)
    control_plane.kubectl(*shlex.split(command.replace("--clusterrole=edit", "--clusterrole=cluster-admin")))
    try:
        found = check(control_plane, namespace, monkeypatch, kubeconfig)
    finally:
        control_plane.kubectl("delete", "rolebinding", "taskfleet-user", "-n", "default")
    assert [found["your rights"][0].verdict, found["admission"][0].verdict] == [Verdict.OK, Verdict.OK]


def test_missing_rights_pods_and_queues_in_trouble_are_named(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = control_plane.make_namespace("doctor")
    control_plane.make_account(namespace, "powerless")
    make_operator(control_plane, namespace, "powerless", ready=0)
    queue = create(control_plane, build_task_queue(namespace))
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "QueueConflict",
        "message": "taken",
        "lastTransitionTime": queue["metadata"]["creationTimestamp"],
    }
    path = queue_path(namespace, "thumbnails", "status")
    control_plane.request("PATCH", path, {"status": {"conditions": [condition]}}, "application/merge-patch+json")
    found = check(control_plane, namespace, monkeypatch)
    (rights,), (release,), (leader,) = found["operator rights"], found["release"], found["leader"]
    assert rights.verdict is release.verdict is leader.verdict is Verdict.PROBLEM
    assert "no operator leads" in leader.detail
    assert "update leases" in rights.detail
    assert "patch deployments.apps/scale" in rights.detail
    assert "0 of 1 pods are ready" in release.detail
    assert any(f"{namespace}/thumbnails" in f.detail and "QueueConflict" in f.detail for f in found["taskqueues"])


def test_a_namespace_without_a_release_is_told(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    (release,) = check(control_plane, control_plane.make_namespace("doctor"), monkeypatch)["release"]
    assert release.verdict is Verdict.PROBLEM
    assert "--namespace" in (release.fix or "")
