"""`taskfleet doctor --cluster` at a real API server: the CRD, the operator's rights, parts of a release, TaskQueues."""

from importlib.metadata import version

import pytest
from tests.controlplane.rights import bind_rights
from tests.controlplane.samples import build_task_queue, create, queue_path
from tests.support.controlplane import ControlPlane

from taskfleet.diagnosis.cluster import check_cluster
from taskfleet.diagnosis.finding import Finding, Verdict

LABELS = {
    "app.kubernetes.io/part-of": "taskfleet",
    "app.kubernetes.io/component": "operator",
    "app.kubernetes.io/version": version("taskfleet"),
}


def check(plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Finding]]:
    """The findings by check."""
    monkeypatch.setenv("PATH", str(plane.binaries), prepend=":")
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    findings: dict[str, list[Finding]] = {}
    for finding in check_cluster(namespace):
        findings.setdefault(finding.check, []).append(finding)
    return findings


def make_operator(plane: ControlPlane, namespace: str, account: str, ready: int) -> None:
    """A Deployment that looks like the operator's, with so many ready pods."""
    labels = {"app": "operator"}
    container = {"name": "operator", "image": "registry.example/operator"}
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


def test_a_sound_release_has_no_problem(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rights that it asks for are those that the chart gives."""
    namespace = control_plane.make_namespace("doctor")
    bind_rights(control_plane, namespace)
    make_operator(control_plane, namespace, "operator", ready=1)
    found = check(control_plane, namespace, monkeypatch)
    names = ("cluster", "crd", "release", "operator rights", "your rights")
    assert {name: [finding.verdict for finding in found[name]] for name in names} == {
        name: [Verdict.OK] for name in names
    }, found


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
    (rights,), (release,) = found["operator rights"], found["release"]
    assert rights.verdict is release.verdict is Verdict.PROBLEM
    assert "patch deployments.apps/scale" in rights.detail
    assert "0 of 1 pods are ready" in release.detail
    assert any(f"{namespace}/thumbnails" in f.detail and "QueueConflict" in f.detail for f in found["taskqueues"])


def test_a_namespace_without_a_release_is_told(control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    (release,) = check(control_plane, control_plane.make_namespace("doctor"), monkeypatch)["release"]
    assert release.verdict is Verdict.PROBLEM
    assert "--namespace" in (release.fix or "")
