"""What an operator process makes of a TaskQueue, and how it keeps it so."""

import base64
import time
from typing import Any

import pytest
from tests.controlplane.operators import OperatorProcess, get_condition
from tests.controlplane.samples import build_task_queue, create, queue_path
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually_sync

KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
}
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
pytestmark = pytest.mark.usefixtures("operator")
SECONDS = 40


def child_path(namespace: str, name: str, kind: str = "Deployment") -> str:
    """URL path of a child of a TaskQueue."""
    return f"{KINDS[kind].format(namespace)}/{name}-worker"


def make_ready(plane: ControlPlane, namespace: str, name: str, **spec: Any) -> dict[str, Any]:
    """Create a TaskQueue and wait until all is in place."""
    create(plane, build_task_queue(namespace, name, **spec))
    eventually_sync(lambda: get_condition(plane, namespace, name).get("status") == "True", SECONDS)
    return plane.request("GET", queue_path(namespace, name))


def find_child(plane: ControlPlane, namespace: str, name: str, kind: str = "Deployment") -> dict[str, Any]:
    """A child that must be there."""
    return plane.request("GET", child_path(namespace, name, kind))


def get_image(deployment: dict[str, Any]) -> str:
    """Image of the worker container."""
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return image


def count_writes(plane: ControlPlane, namespace: str, name: str) -> int:
    """Writes so far to a TaskQueue and its children by the operator's account."""
    return sum(
        entry["verb"] not in {"get", "list", "watch"}
        and entry["objectRef"].get("name") in {name, f"{name}-worker"}
        and entry["user"]["username"].endswith(":operator")
        for entry in plane.read_audit(namespace)
    )


def hold_still(plane: ControlPlane, namespace: str, name: str, seconds: float) -> None:
    """Wait until nothing has been written for one second; then fail if anything is within `seconds`."""
    deadline = time.monotonic() + SECONDS
    seen = -1
    while (now := count_writes(plane, namespace, name)) != seen:
        assert time.monotonic() < deadline, "never settles"
        seen = now
        time.sleep(1.5)
    version = plane.request("GET", queue_path(namespace, name))["metadata"]["resourceVersion"]
    time.sleep(seconds)  # that nothing happens can only be waited for
    assert count_writes(plane, namespace, name) == seen
    assert plane.request("GET", queue_path(namespace, name))["metadata"]["resourceVersion"] == version


def test_children_belong_to_their_task_queue(control_plane: ControlPlane, namespace: str) -> None:
    """Deployment (born with 0 pods), Secret and ServiceAccount, each owned; nothing added to the TaskQueue itself."""
    before = create(control_plane, build_task_queue(namespace, "family"))
    eventually_sync(lambda: get_condition(control_plane, namespace, "family").get("status") == "True", SECONDS)
    for kind in ("Deployment", "Secret", "ServiceAccount"):
        metadata = find_child(control_plane, namespace, "family", kind)["metadata"]
        (owner,) = metadata["ownerReferences"]
        assert owner["uid"] == before["metadata"]["uid"]
        assert owner["controller"] is True
        assert metadata["labels"]["taskfleet.dev/queue"] == "family"
    assert find_child(control_plane, namespace, "family")["spec"]["replicas"] == 0
    assert control_plane.find(child_path(namespace, "family", "PodDisruptionBudget")) is None
    after = control_plane.request("GET", queue_path(namespace, "family"))
    written = {"managedFields", "resourceVersion"}
    assert {k: v for k, v in after["metadata"].items() if k not in written} == {
        k: v for k, v in before["metadata"].items() if k not in written
    }
    assert after["spec"] == before["spec"]
    assert after["status"]["observedGeneration"] == 1


@pytest.mark.parametrize("kind", ["Deployment", "Secret", "ServiceAccount"])
def test_deleted_child_comes_back(control_plane: ControlPlane, namespace: str, kind: str) -> None:
    """Whoever deletes a child gets a new one."""
    name = f"deleted-{kind.lower()}"
    make_ready(control_plane, namespace, name)
    uid = find_child(control_plane, namespace, name, kind)["metadata"]["uid"]
    control_plane.request("DELETE", child_path(namespace, name, kind), {"propagationPolicy": "Background"})
    path = child_path(namespace, name, kind)
    eventually_sync(lambda: (control_plane.find(path) or {}).get("metadata", {}).get("uid", uid) != uid, SECONDS)


def test_edited_child_is_repaired(control_plane: ControlPlane, namespace: str) -> None:
    """What the operator wants of a child it sets again: image, credentials, labels."""
    make_ready(control_plane, namespace, "edited")
    control_plane.kubectl(
        "set", "image", "-n", namespace, "deployment/edited-worker", "worker=registry.example/other:1"
    )
    data = {"data": {"brokerUrl": base64.b64encode(b"amqp://elsewhere").decode()}}
    control_plane.request("PATCH", child_path(namespace, "edited", "Secret"), data, MERGE)
    account = {"metadata": {"labels": {"taskfleet.dev/queue": None}}, "automountServiceAccountToken": True}
    control_plane.request("PATCH", child_path(namespace, "edited", "ServiceAccount"), account, MERGE)

    def is_repaired() -> bool:
        deployment, secret, service_account = (
            find_child(control_plane, namespace, "edited", kind) for kind in ("Deployment", "Secret", "ServiceAccount")
        )
        return (
            get_image(deployment) == "registry.example/thumbs:1.4"
            and base64.b64decode(secret["data"]["brokerUrl"]).startswith(b"redis://")
            and service_account["automountServiceAccountToken"] is False
            and service_account["metadata"]["labels"].get("taskfleet.dev/queue") == "edited"
        )

    eventually_sync(is_repaired, SECONDS)


def test_fields_of_others_are_left_alone(control_plane: ControlPlane, namespace: str) -> None:
    """An annotation, a variable and a sidecar of another manager stay, also when the image changes."""
    make_ready(control_plane, namespace, "shared")
    foreign = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"annotations": {"example.org/team": "blue"}},
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {"name": "worker", "env": [{"name": "EXTRA", "value": "1"}]},
                        {"name": "sidecar", "image": "registry.example/sidecar:1"},
                    ]
                }
            }
        },
    }
    path = child_path(namespace, "shared")
    control_plane.request("PATCH", f"{path}?fieldManager=mesh", foreign, APPLY)
    image = {"spec": {"worker": {"image": "registry.example/thumbs:2"}}}
    control_plane.request("PATCH", queue_path(namespace, "shared"), image, MERGE)
    eventually_sync(
        lambda: get_image(find_child(control_plane, namespace, "shared")) == "registry.example/thumbs:2", SECONDS
    )
    deployment = find_child(control_plane, namespace, "shared")
    containers = deployment["spec"]["template"]["spec"]["containers"]
    assert deployment["metadata"]["annotations"]["example.org/team"] == "blue"
    assert [container["name"] for container in containers] == ["worker", "sidecar"]
    assert {"name": "EXTRA", "value": "1"} in containers[0]["env"]
    hold_still(control_plane, namespace, "shared", 3)


def test_idle_task_queue_is_not_written(control_plane: ControlPlane, namespace: str) -> None:
    """Without a change nothing is written for ten seconds: no status, no child, whatever the polls do."""
    make_ready(control_plane, namespace, "idle")
    hold_still(control_plane, namespace, "idle", 10)


def test_other_spellings_are_no_drift(control_plane: ControlPlane, namespace: str) -> None:
    """Kubernetes stores `1000m` as `1` and drops empty values: that is not written again and again."""
    worker = {
        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"cpu": 2}},
        "env": [{"name": "EMPTY", "value": ""}],
        "template": {"spec": {"tolerations": [], "hostNetwork": False}},
    }
    make_ready(control_plane, namespace, "spelled", worker=worker, scaling={"replicas": 2})
    # A pinned queue without pods is looked at each second: drift would be written each second.
    hold_still(control_plane, namespace, "spelled", 4)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "worker", "image": "registry.example/x:1"}]}}}}
    control_plane.request("PATCH", child_path(namespace, "spelled"), image, "application/strategic-merge-patch+json")
    eventually_sync(
        lambda: get_image(find_child(control_plane, namespace, "spelled")) == "registry.example/thumbs:1.4", SECONDS
    )


def test_reapplying_never_resets_replicas(control_plane: ControlPlane, namespace: str) -> None:
    """A change of the image, or labels taken off by hand, leave a running Deployment at its replicas."""
    make_ready(control_plane, namespace, "steady", scaling={"mode": "External"})
    path = child_path(namespace, "steady")
    control_plane.kubectl("scale", "-n", namespace, "deployment/steady-worker", "--replicas=5")
    low: list[int] = []
    for step, change in enumerate(
        (
            {"spec": {"worker": {"image": "registry.example/thumbs:2"}}},
            {"spec": {"worker": {"image": "registry.example/thumbs:3"}}},
        )
    ):
        control_plane.request("PATCH", queue_path(namespace, "steady"), change, MERGE)
        eventually_sync(
            lambda step=step: get_image(find_child(control_plane, namespace, "steady")).endswith(f":{step + 2}"),
            SECONDS,
        )
        low.append(find_child(control_plane, namespace, "steady")["spec"]["replicas"])
    labels = {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}
    control_plane.request("PATCH", path, labels, MERGE)
    eventually_sync(
        lambda: "app.kubernetes.io/managed-by" in find_child(control_plane, namespace, "steady")["metadata"]["labels"],
        SECONDS,
    )
    low.append(find_child(control_plane, namespace, "steady")["spec"]["replicas"])
    assert low == [5, 5, 5]


def test_disruption_budget_comes_and_goes(control_plane: ControlPlane, namespace: str) -> None:
    """It exists as long as the annotation asks for it."""
    make_ready(control_plane, namespace, "budget")
    path = child_path(namespace, "budget", "PodDisruptionBudget")
    for share in ("25%", "50%"):
        note = {"metadata": {"annotations": {"taskfleet.dev/max-unavailable": share}}}
        control_plane.request("PATCH", queue_path(namespace, "budget"), note, MERGE)
        eventually_sync(
            lambda share=share: (control_plane.find(path) or {}).get("spec", {}).get("maxUnavailable") == share, SECONDS
        )
    note = {"metadata": {"annotations": {"taskfleet.dev/max-unavailable": None}}}
    control_plane.request("PATCH", queue_path(namespace, "budget"), note, MERGE)
    eventually_sync(lambda: control_plane.find(path) is None, SECONDS)


def test_nothing_was_forbidden(control_plane: ControlPlane, namespace: str, operator: OperatorProcess) -> None:
    """The shipped rights suffice: no request of this module's operator was refused for want of a right."""
    make_ready(control_plane, namespace, "lawful")
    mine = [e for e in control_plane.read_audit(namespace) if e["user"]["username"].endswith(":operator")]
    assert mine
    assert [e for e in mine if e.get("responseStatus", {}).get("code") == 403] == []


def test_children_go_with_the_task_queue(controllers: ControlPlane, namespace: str) -> None:
    """Kubernetes' own garbage collector removes them, and nobody brings them back."""
    make_ready(controllers, namespace, "leaving")
    controllers.request("DELETE", queue_path(namespace, "leaving"))
    for kind in ("Deployment", "Secret", "ServiceAccount"):
        eventually_sync(lambda kind=kind: controllers.find(child_path(namespace, "leaving", kind)) is None, 40)
    hold = time.monotonic() + 2
    while time.monotonic() < hold:
        assert controllers.find(child_path(namespace, "leaving")) is None
        time.sleep(0.3)


def test_task_queue_is_deleted_without_an_operator(
    controllers: ControlPlane, namespace: str, operator: OperatorProcess
) -> None:
    """No finalizer holds it: with the operator dead the TaskQueue and its children go all the same."""
    make_ready(controllers, namespace, "orphan")
    operator.kill()
    try:
        controllers.request("DELETE", queue_path(namespace, "orphan"))
        eventually_sync(lambda: controllers.find(queue_path(namespace, "orphan")) is None, SECONDS)
        eventually_sync(lambda: controllers.find(child_path(namespace, "orphan")) is None, 40)
    finally:
        operator.start()
