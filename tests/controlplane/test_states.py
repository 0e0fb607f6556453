"""What a TaskQueue's conditions, events and replicas tell, and how a person steers them."""

import base64
import shlex
from typing import Any

import pytest
from tests.controlplane.operators import OperatorProcess, get_condition
from tests.controlplane.samples import await_later_creation, build_task_queue, create, queue_path
from tests.support.brokers import Valkey
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually_sync

MERGE = "application/merge-patch+json"
SECONDS = 90
pytestmark = pytest.mark.usefixtures("operator")


def get_replicas(plane: ControlPlane, namespace: str, name: str) -> int | None:
    """What the Deployment was asked for; None while there is none."""
    deployment = plane.find(f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}-worker")
    return deployment["spec"]["replicas"] if deployment else None


def await_reason(plane: ControlPlane, namespace: str, name: str, reason: str, kind: str = "Ready") -> dict[str, Any]:
    """Wait for a condition's reason; returns the condition."""

    def find() -> dict[str, Any] | None:
        condition = get_condition(plane, namespace, name, kind)
        return condition if condition.get("reason") == reason else None

    return eventually_sync(find, SECONDS)


def push(valkey: Valkey, queue: str, count: int) -> None:
    """Messages at the broker, as kombu keeps them, all at once."""
    valkey.command("LPUSH", queue, *["{}"] * count)


def fetch_events(plane: ControlPlane, namespace: str, name: str) -> list[dict[str, Any]]:
    """Events on a TaskQueue."""
    answer = plane.request("GET", f"/api/v1/namespaces/{namespace}/events")
    return [item for item in answer["items"] if item["involvedObject"]["name"] == name]


def patch(plane: ControlPlane, namespace: str, name: str, change: dict[str, Any]) -> None:
    """A merge patch of a TaskQueue."""
    plane.request("PATCH", queue_path(namespace, name), change, MERGE)


def test_waiting_tasks_bring_replicas(control_plane: ControlPlane, namespace: str, valkey: Valkey) -> None:
    """Messages at the broker scale the Deployment through /scale, and status and an event say why."""
    create(control_plane, build_task_queue(namespace, "burst", scaling={"maxReplicas": 7}))
    await_reason(control_plane, namespace, "burst", "Reconciled")
    push(valkey, "burst", 200)
    eventually_sync(lambda: get_replicas(control_plane, namespace, "burst") == 7, SECONDS)
    await_reason(control_plane, namespace, "burst", "AtMaximum", "ScalingLimited")
    queue = control_plane.request("GET", queue_path(namespace, "burst"))
    assert queue["status"]["desiredReplicas"] == 7
    assert queue["status"]["messages"]["ready"] == 200
    assert queue["status"]["lastScaleReason"]
    deployment = control_plane.request("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/burst-worker")
    owners = {
        entry["manager"]
        for entry in deployment["metadata"]["managedFields"]
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    }
    assert owners == {"taskfleet-scale"}
    (event,) = fetch_events(control_plane, namespace, "burst")
    assert (event["type"], event["reason"]) == ("Normal", "ScaledUp")
    assert event["message"].startswith("0 -> 7 replicas")


def test_a_quota_that_lets_no_worker_start_is_told(control_plane: ControlPlane, namespace: str) -> None:
    """As the Deployment controller reports it, and in the table that people look at first."""
    create(control_plane, build_task_queue(namespace, "refused", scaling={"replicas": 2}))
    eventually_sync(lambda: get_replicas(control_plane, namespace, "refused") == 2, SECONDS)
    condition = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "exceeded quota: team",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "lastUpdateTime": "2026-01-01T00:00:00Z",
    }
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/refused-worker/status"
    control_plane.request("PATCH", path, {"status": {"conditions": [condition]}}, MERGE)
    assert "exceeded quota: team" in await_reason(control_plane, namespace, "refused", "WorkersRefused")["message"]
    header, row = control_plane.kubectl("get", "tq", "refused", "-n", namespace).splitlines()
    assert header.split()[:2] == ["NAME", "STATUS"]
    assert row.split()[:2] == ["refused", "WorkersRefused"]


def test_the_last_scaling_is_told_with_its_reason(control_plane: ControlPlane, namespace: str, valkey: Valkey) -> None:
    """Also when one follows at the heels of another."""
    create(control_plane, build_task_queue(namespace, "twice", scaling={"maxReplicas": 40}))
    await_reason(control_plane, namespace, "twice", "Reconciled")
    push(valkey, "twice", 1)
    eventually_sync(lambda: get_replicas(control_plane, namespace, "twice") == 1, SECONDS)
    push(valkey, "twice", 5000)
    eventually_sync(lambda: get_replicas(control_plane, namespace, "twice") == 40, SECONDS)

    def is_told() -> bool:
        status = control_plane.request("GET", queue_path(namespace, "twice"))["status"]
        return status["lastScaleReason"].startswith("maxReplicas 40") and status["messages"]["ready"] == 5001

    eventually_sync(is_told, SECONDS)


def test_older_task_queue_keeps_the_queue(
    control_plane: ControlPlane, namespace: str, operator: OperatorProcess
) -> None:
    """Of two on one queue the newer waits with QueueConflict, and takes over when the older is deleted."""
    create(control_plane, build_task_queue(namespace, "zz-older", queueName="contended"))
    await_reason(control_plane, namespace, "zz-older", "Reconciled")
    await_later_creation(control_plane, namespace, "zz-older")
    create(control_plane, build_task_queue(namespace, "aa-newer", queueName="contended"))
    condition = await_reason(control_plane, namespace, "aa-newer", "QueueConflict")
    assert condition["status"] == "False"
    assert f"{namespace}/zz-older" in condition["message"]
    assert get_replicas(control_plane, namespace, "aa-newer") is None
    assert get_condition(control_plane, namespace, "zz-older")["status"] == "True"
    assert [event["reason"] for event in fetch_events(control_plane, namespace, "aa-newer")] == ["QueueConflict"]
    control_plane.request("DELETE", queue_path(namespace, "zz-older"))
    await_reason(control_plane, namespace, "aa-newer", "Reconciled")
    assert get_replicas(control_plane, namespace, "aa-newer") == 0


def test_missing_broker_secret_is_told_and_mended(control_plane: ControlPlane, namespace: str, valkey: Valkey) -> None:
    """The condition names the Secret and the fix; it is seen without any change to the TaskQueue."""
    broker = {"secretRef": {"name": "my-broker", "key": "amqp"}}
    create(control_plane, build_task_queue(namespace, "elsewhere", broker=broker))
    condition = await_reason(control_plane, namespace, "elsewhere", "BrokerSecretUnreadable")
    assert "my-broker does not exist: create it" in condition["message"]
    secret = {"metadata": {"name": "my-broker"}, "stringData": {"url": valkey.url}}
    control_plane.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
    eventually_sync(
        lambda: "has no key amqp" in get_condition(control_plane, namespace, "elsewhere").get("message", ""), 60
    )
    more = {"stringData": {"amqp": valkey.url}}
    control_plane.request("PATCH", f"/api/v1/namespaces/{namespace}/secrets/my-broker", more, MERGE)
    eventually_sync(lambda: get_replicas(control_plane, namespace, "elsewhere") == 0, 60)
    worker = control_plane.request("GET", f"/api/v1/namespaces/{namespace}/secrets/elsewhere-worker")
    assert base64.b64decode(worker["data"]["brokerUrl"]).decode() == valkey.url


def test_what_the_crd_cannot_check_is_told(control_plane: ControlPlane, namespace: str) -> None:
    """A time zone that does not exist passes the CRD: the condition names field and fix, and a correction heals."""
    schedules = [{"cron": "0 7 * * *", "timeZone": "Europe/Nowhere", "minReplicas": 1}]
    create(control_plane, build_task_queue(namespace, "lost", scaling={"schedules": schedules}))
    condition = await_reason(control_plane, namespace, "lost", "InvalidSpec")
    assert "timeZone" in condition["message"]
    assert "is no time zone: write an IANA name" in condition["message"]
    assert get_replicas(control_plane, namespace, "lost") is None
    patch(control_plane, namespace, "lost", {"spec": {"scaling": {"schedules": []}}})
    await_reason(control_plane, namespace, "lost", "Reconciled")


@pytest.mark.parametrize(
    ("name", "worker", "words"),
    [
        pytest.param("greedy", {"resources": {"limits": {"cpu": "plenty"}}}, "quantities", id="no quantity"),
        pytest.param("shapeless", {"template": {"spec": {"tolerations": "all"}}}, "tolerations", id="wrong type"),
        pytest.param("misspelled", {"template": {"spec": {"nodeSelektor": {}}}}, "nodeSelektor", id="unknown field"),
        pytest.param("rejected", {"template": {"spec": {"restartPolicy": "Never"}}}, "restartPolicy", id="no value"),
    ],
)
def test_what_kubernetes_refuses_is_told(
    control_plane: ControlPlane, namespace: str, name: str, worker: dict[str, Any], words: str
) -> None:
    """A pod template that Kubernetes does not take shows up in the condition with its words, and as an event."""
    create(control_plane, build_task_queue(namespace, name, worker=worker))
    condition = await_reason(control_plane, namespace, name, "InvalidSpec")
    assert words in condition["message"]
    assert [event["reason"] for event in fetch_events(control_plane, namespace, name)] == ["InvalidSpec"]
    patch(control_plane, namespace, name, {"spec": {"worker": {"resources": None, "template": None}}})
    await_reason(control_plane, namespace, name, "Reconciled")


def test_scale_pins_and_null_resumes(control_plane: ControlPlane, namespace: str) -> None:
    """`kubectl scale tq` fixes the replicas; the condition's own command gives them back to the rule."""
    create(control_plane, build_task_queue(namespace, "pinned", scaling={"idleSeconds": 0}))
    await_reason(control_plane, namespace, "pinned", "Reconciled")
    control_plane.kubectl("scale", "tq/pinned", "-n", namespace, "--replicas=3")
    eventually_sync(lambda: get_replicas(control_plane, namespace, "pinned") == 3, SECONDS)
    condition = await_reason(control_plane, namespace, "pinned", "Pinned", "ScalingActive")
    control_plane.kubectl(*shlex.split(condition["message"].partition("run kubectl ")[2]))
    eventually_sync(lambda: get_replicas(control_plane, namespace, "pinned") == 0, 40)
    await_reason(control_plane, namespace, "pinned", "Scaling", "ScalingActive")


def test_pause_holds_and_resumes(control_plane: ControlPlane, namespace: str, valkey: Valkey) -> None:
    """The annotation stops scaling, and taking it off starts it again."""
    queue = build_task_queue(namespace, "paused", scaling={"maxReplicas": 2})
    queue["metadata"]["annotations"] = {"taskfleet.dev/paused": "true"}
    create(control_plane, queue)
    await_reason(control_plane, namespace, "paused", "Paused", "ScalingActive")
    push(valkey, "paused", 50)
    eventually_sync(
        lambda: control_plane.request("GET", queue_path(namespace, "paused"))["status"].get("desiredReplicas") == 2,
        SECONDS,
    )
    assert get_replicas(control_plane, namespace, "paused") == 0
    patch(control_plane, namespace, "paused", {"metadata": {"annotations": {"taskfleet.dev/paused": None}}})
    eventually_sync(lambda: get_replicas(control_plane, namespace, "paused") == 2, SECONDS)


@pytest.mark.parametrize("mode", ["DryRun", "External"])
def test_other_modes_report_and_change_nothing(
    control_plane: ControlPlane, namespace: str, valkey: Valkey, mode: str
) -> None:
    """What would be done is in the status; the Deployment stays as somebody else set it."""
    name = f"mode-{mode.lower()}"
    create(control_plane, build_task_queue(namespace, name, scaling={"mode": mode, "maxReplicas": 4}))
    await_reason(control_plane, namespace, name, mode, "ScalingActive")
    control_plane.kubectl("scale", "-n", namespace, f"deployment/{name}-worker", "--replicas=2")
    push(valkey, name, 100)
    eventually_sync(
        lambda: control_plane.request("GET", queue_path(namespace, name))["status"].get("desiredReplicas") == 4,
        SECONDS,
    )
    assert get_replicas(control_plane, namespace, name) == 2
    assert fetch_events(control_plane, namespace, name) == []


def test_unknown_is_not_zero(control_plane: ControlPlane, namespace: str, valkey: Valkey) -> None:
    """While the broker does not answer, replicas are held and the condition says so; afterwards all goes on."""
    create(control_plane, build_task_queue(namespace, "blind", scaling={"maxReplicas": 3, "idleSeconds": 0}))
    await_reason(control_plane, namespace, "blind", "Reconciled")
    push(valkey, "blind", 50)
    eventually_sync(lambda: get_replicas(control_plane, namespace, "blind") == 3, SECONDS)
    valkey.pause()
    try:
        condition = await_reason(control_plane, namespace, "blind", "BrokerUnreachable", "MetricsAvailable")
        assert "replicas are held" in condition["message"]
        assert get_replicas(control_plane, namespace, "blind") == 3
    finally:
        valkey.resume()
    eventually_sync(
        lambda: get_condition(control_plane, namespace, "blind", "MetricsAvailable").get("status") == "True", SECONDS
    )
    assert get_replicas(control_plane, namespace, "blind") == 3


def test_several_queues_scale_one_pool_of_workers(control_plane: ControlPlane, namespace: str, valkey: Valkey) -> None:
    """What waits in all of them counts; each is registered, and another TaskQueue has one once it is let go."""
    queues = [{"name": "several-a", "weight": 2}, {"name": "several-b"}]
    create(control_plane, build_task_queue(namespace, "several", queues=queues, scaling={"maxReplicas": 5}))
    await_reason(control_plane, namespace, "several", "Reconciled")
    push(valkey, "several-a", 30)
    push(valkey, "several-b", 70)
    eventually_sync(lambda: get_replicas(control_plane, namespace, "several") == 5, SECONDS)

    def count_waiting() -> int:
        status = control_plane.request("GET", queue_path(namespace, "several")).get("status") or {}
        return int((status.get("messages") or {}).get("ready") or 0)

    eventually_sync(lambda: count_waiting() == 100, SECONDS)
    for name in ("several-a", "several-b"):
        eventually_sync(lambda field=name: valkey.command("HEXISTS", "taskfleet:queues", field) == b":1", SECONDS)
    await_later_creation(control_plane, namespace, "several")
    create(control_plane, build_task_queue(namespace, "late", queueName="several-b"))
    condition = await_reason(control_plane, namespace, "late", "QueueConflict")
    assert f"{namespace}/several" in condition["message"]
    patch(control_plane, namespace, "several", {"spec": {"queues": queues[:1]}})
    await_reason(control_plane, namespace, "late", "Reconciled")


def test_a_field_that_only_a_newer_crd_knows_is_ignored_and_named(
    control_plane: ControlPlane, namespace: str, operator: OperatorProcess
) -> None:
    """An upgrade brings the CRD before the operator, and a rollback may leave it: its defaults are in every object."""
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/taskqueues.taskfleet.dev"
    place = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/scaling/properties/ofTheNextVersion"
    field = {"op": "add", "path": place, "value": {"type": "integer", "default": 3}}
    create(control_plane, build_task_queue(namespace, "before-crd"))
    control_plane.request("PATCH", crd, [field], "application/json-patch+json")

    def is_served() -> bool:
        spec = control_plane.request("GET", queue_path(namespace, "before-crd"))["spec"]
        return "ofTheNextVersion" in spec["scaling"]

    def is_named() -> bool:
        condition = get_condition(control_plane, namespace, "before-crd")
        told = "older than the CRD and ignores spec.scaling.ofTheNextVersion" in condition["message"]
        return told and (condition["status"], condition["reason"]) == ("True", "Reconciled")

    try:
        eventually_sync(is_served, SECONDS)
        operator.stop()
        operator.start()  # a watch that is open goes on with the CRD before for a minute
        eventually_sync(is_named, SECONDS)
        patch(control_plane, namespace, "before-crd", {"spec": {"scaling": {"replicas": 2}}})
        eventually_sync(lambda: get_replicas(control_plane, namespace, "before-crd") == 2, SECONDS)
    finally:
        control_plane.request("PATCH", crd, [{"op": "remove", "path": place}], "application/json-patch+json")
