"""The TaskQueue CRD at a real API server: rules, defaults, columns, subresources, documentation."""

import json
from typing import Any

import pytest
from tests.controlplane.samples import build_task_queue, create, queue_path
from tests.support.controlplane import ApiError, ControlPlane

from taskfleet_core.crd import COLUMNS, build_crd

SCHEMA = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


@pytest.fixture(scope="module")
def namespace(control_plane: ControlPlane) -> str:
    """One namespace for all tests of this module."""
    return control_plane.make_namespace("crd")


def find_rules(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """All CEL rules of a schema as (path, rule)."""
    rules = [(path, rule) for rule in schema.get("x-kubernetes-validations", ())]
    for name, child in schema.get("properties", {}).items():
        rules += find_rules(child, f"{path}.{name}")
    if "items" in schema:
        rules += find_rules(schema["items"], f"{path}[]")
    return rules


RULES = {f"{path or 'object'}: {rule['message'][:40]}": rule for path, rule in find_rules(SCHEMA)}

# The rule (as above) -> changes of the smallest TaskQueue that it accepts, and those that it refuses.
CASES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    ".spec.worker: the solo pool runs one task at a time: s": (
        [
            {"spec": {"worker": {"pool": "solo", "concurrency": 1}}},
            {"spec": {"worker": {"pool": "threads", "concurrency": 8}}},
        ],
        [{"spec": {"worker": {"pool": "solo", "concurrency": 2}}}, {"spec": {"worker": {"pool": "solo"}}}],
    ),
    ".spec.worker: every entry needs a name: write {name: V": (
        [{"spec": {"worker": {"env": []}}}, {"spec": {"worker": {"env": [{"name": "A", "value": "1"}]}}}],
        [{"spec": {"worker": {"env": [{"name": "A"}, {"name": ""}]}}}],
    ),
    ".spec.worker: names of Taskfleet's own (TASKFLEET_*, C": (
        [{"spec": {"worker": {"env": [{"name": "CELERY_TIMEZONE"}, {"name": "MY_TASKFLEET_X"}]}}}],
        [
            {"spec": {"worker": {"env": [{"name": name, "value": "x"}]}}}
            for name in ("TASKFLEET_QUEUE", "CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_LOADER")
        ]
        + [{"spec": {"worker": {"env": [{"name": "OK"}, {"name": "CELERY_RESULT_BACKEND"}]}}}],
    ),
    ".spec: must not end in .dead (kept for dead let": (
        [{"spec": {"queueName": "dead"}}, {"spec": {"queueName": "amqp.x"}}],
        [{"spec": {"queueName": "thumbnails.dead"}}, {"spec": {"queueName": "amq.direct"}}],
    ),
    ".spec: is there beside queueName: put that name": (
        [{"spec": {"queues": [{"name": "a", "weight": 3}, {"name": "b"}]}}, {"spec": {"queueName": "a", "queues": []}}],
        [{"spec": {"queueName": "a", "queues": [{"name": "b"}]}}],
    ),
    ".spec: names must not end in .dead (kept for de": (
        [{"spec": {"queues": [{"name": "deadly"}]}}],
        [{"spec": {"queues": [{"name": "a"}, {"name": "a.dead"}]}}, {"spec": {"queues": [{"name": "amq.x"}]}}],
    ),
    ".spec: a name is there twice: remove one, and g": (
        [{"spec": {"queues": [{"name": f"q{n}"} for n in range(16)]}}],
        [{"spec": {"queues": [{"name": "a"}, {"name": "b"}, {"name": "a", "weight": 2}]}}],
    ),
    ".spec.scaling: must not exceed maxReplicas: lower it or": (
        [
            {"spec": {"scaling": {"minReplicas": 3, "maxReplicas": 3}}},
            {"spec": {"scaling": {"minReplicas": 50}}},
        ],
        [
            {"spec": {"scaling": {"minReplicas": 4, "maxReplicas": 3}}},
            {"spec": {"scaling": {"minReplicas": 51}}},
        ],
    ),
    ".spec.scaling.schedules[]: must not exceed maxReplicas: lower it or": (
        [
            {"spec": {"scaling": {"schedules": [{"cron": "0 7 * * *", "minReplicas": 2, "maxReplicas": 2}]}}},
            {"spec": {"scaling": {"schedules": [{"cron": "0 7 * * *", "minReplicas": 2}]}}},
            {"spec": {"scaling": {"schedules": [{"cron": "0 7 * * *", "minReplicas": None, "maxReplicas": 1}]}}},
        ],
        [{"spec": {"scaling": {"schedules": [{"cron": "0 7 * * *", "minReplicas": 3, "maxReplicas": 2}]}}}],
    ),
    "object: metadata.name must have at most 52 chara": (
        [{"metadata": {"name": "n" * 52}}],
        [{"metadata": {"name": "n" * 53}}],
    ),
    "object: metadata.name must be of lower-case lett": (
        [{"metadata": {"name": "a-1"}}],
        [{"metadata": {"name": "a.b"}}],
    ),
}
# Refuses a change only: see test_queue_name_never_changes.
TRANSITIONS = {".spec: queueName is immutable: make a new TaskQ"}


def build_changed(namespace: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The smallest TaskQueue with changes to spec and metadata."""
    queue = build_task_queue(namespace, "rules", **changes.get("spec", {}))
    queue["metadata"] |= changes.get("metadata", {})
    return queue


def test_every_rule_has_cases() -> None:
    """A rule added to the model without an accepting and a refusing case fails here."""
    assert set(RULES) == {*CASES, *TRANSITIONS}
    assert all(accepted and refused for accepted, refused in CASES.values())


ACCEPTED = [pytest.param(case, id=f"{name}-{n}") for name, (good, _) in CASES.items() for n, case in enumerate(good)]
REFUSED = [pytest.param(name, case, id=f"{name}-{n}") for name, (_, bad) in CASES.items() for n, case in enumerate(bad)]


@pytest.mark.parametrize("changes", ACCEPTED)
def test_rule_accepts(control_plane: ControlPlane, namespace: str, changes: dict[str, Any]) -> None:
    """What keeps the rule is taken."""
    path = queue_path(namespace) + "?dryRun=All&fieldValidation=Strict"
    control_plane.request("POST", path, build_changed(namespace, changes))


@pytest.mark.parametrize(("rule", "changes"), REFUSED)
def test_rule_refuses(control_plane: ControlPlane, namespace: str, rule: str, changes: dict[str, Any]) -> None:
    """What breaks the rule is refused, and the answer tells the fix."""
    with pytest.raises(ApiError) as refusal:
        control_plane.request("POST", queue_path(namespace) + "?dryRun=All", build_changed(namespace, changes))
    assert refusal.value.status == 422
    assert RULES[rule]["message"] in json.loads(str(refusal.value).split(": ", 1)[1])["message"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("one", "two", id="changed"),
        pytest.param("one", None, id="taken away"),
        pytest.param(None, "one", id="given later"),
    ],
)
def test_queue_name_never_changes(
    control_plane: ControlPlane, namespace: str, before: str | None, after: str | None
) -> None:
    """The queue's name is settled at birth; everything else may change."""
    name = f"fixed-{before}-{after}".lower()
    create(control_plane, build_task_queue(namespace, name, queueName=before))
    path, kind = queue_path(namespace, name), "application/merge-patch+json"
    control_plane.request("PATCH", path, {"spec": {"scaling": {"maxReplicas": 7}}}, kind)
    with pytest.raises(ApiError, match="queueName is immutable"):
        control_plane.request("PATCH", path, {"spec": {"queueName": after}}, kind)


def test_defaults_are_filled_in(control_plane: ControlPlane, namespace: str) -> None:
    """The smallest TaskQueue reads as if everything had been written."""
    spec = create(control_plane, build_task_queue(namespace, "defaults"))["spec"]
    assert spec["scaling"] == {
        "minReplicas": 0,
        "maxReplicas": 50,
        "targetWaitSeconds": 5,
        "idleSeconds": 60,
        "priority": 0,
        "schedules": [],
        "mode": "Active",
    }
    assert spec["delivery"] == {"limit": 5, "deadLetter": True}
    assert {"concurrency": 4, "pool": "prefork", "maxTaskSeconds": 3600}.items() <= spec["worker"].items()
    partly = create(control_plane, build_task_queue(namespace, "partly", scaling={"maxReplicas": 9}))
    assert partly["spec"]["scaling"]["idleSeconds"] == 60


def test_columns(control_plane: ControlPlane, namespace: str) -> None:
    """`kubectl get tq` tells the state in one line, `-o wide` also the reason."""
    create(control_plane, build_task_queue(namespace, "columns", scaling={"mode": "DryRun", "targetWaitSeconds": 2.5}))
    status = {
        "replicas": 3,
        "desiredReplicas": 4,
        "readyReplicas": 2,
        "messages": {"ready": 17, "unacknowledged": 5},
        "lastScaleReason": "load",
    }
    kind = "application/merge-patch+json"
    control_plane.request("PATCH", queue_path(namespace, "columns", "status"), {"status": status}, kind)
    narrow = control_plane.kubectl("get", "tq", "columns", "-n", namespace).splitlines()
    assert narrow[0].split() == ["NAME", *(column[0].upper() for column in COLUMNS if not column[4])]
    assert narrow[1].split()[:6] == ["columns", "3", "4", "2", "17", "DryRun"]
    wide = control_plane.kubectl("get", "tq", "columns", "-n", namespace, "-o", "wide").splitlines()
    assert wide[0].split() == ["NAME", *(column[0].upper() for column in COLUMNS)]
    assert wide[1].split()[-3:] == ["2.5", "load", "registry.example/thumbs:1.4"]


def test_status_is_written_apart(control_plane: ControlPlane, namespace: str) -> None:
    """A change of the spec leaves the status alone, and the other way round; only the spec counts generations."""
    queue = create(control_plane, build_task_queue(namespace, "apart"))
    queue["status"] = {"replicas": 5}
    queue["spec"]["scaling"]["maxReplicas"] = 8
    changed = control_plane.request("PUT", queue_path(namespace, "apart"), queue)
    assert "status" not in changed
    assert changed["metadata"]["generation"] == 2
    changed["status"] = {"replicas": 5}
    changed["spec"]["scaling"]["maxReplicas"] = 9
    seen = control_plane.request("PUT", queue_path(namespace, "apart", "status"), changed)
    assert (seen["status"]["replicas"], seen["spec"]["scaling"]["maxReplicas"]) == (5, 8)
    assert seen["metadata"]["generation"] == 2


def test_conditions_are_a_map(control_plane: ControlPlane, namespace: str) -> None:
    """Two writers of different conditions by server-side apply do not delete each other's; one type comes once."""
    create(control_plane, build_task_queue(namespace, "conditions"))
    path = queue_path(namespace, "conditions", "status")
    for kind in ("Ready", "Foreign"):
        condition = {"type": kind, "status": "True", "reason": "Said", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        body = {"apiVersion": "taskfleet.dev/v1alpha1", "kind": "TaskQueue", "status": {"conditions": [condition]}}
        answer = control_plane.request("PATCH", f"{path}?fieldManager={kind}", body, "application/apply-patch+yaml")
    assert [condition["type"] for condition in answer["status"]["conditions"]] == ["Ready", "Foreign"]
    twice = [answer["status"]["conditions"][0]] * 2
    with pytest.raises(ApiError, match="Duplicate value"):
        control_plane.request("PATCH", path, {"status": {"conditions": twice}}, "application/merge-patch+json")


def test_long_messages_are_kept(control_plane: ControlPlane, namespace: str) -> None:
    """What an image registry or a broker says may be long: the status is never refused for it."""
    create(control_plane, build_task_queue(namespace, "long"))
    condition = {"type": "Ready", "status": "False", "reason": "ImagePullFailed", "message": "x" * 4000}
    status = {"conditions": [condition], "lastScaleReason": "y" * 4000, "observedGeneration": 2**40}
    kind = "application/merge-patch+json"
    control_plane.request("PATCH", queue_path(namespace, "long", "status"), {"status": status}, kind)


def test_kubectl_scale_pins_and_a_patch_resumes(control_plane: ControlPlane, namespace: str) -> None:
    """`kubectl scale tq` sets spec.scaling.replicas; the documented patch takes it away again."""
    create(control_plane, build_task_queue(namespace, "scaled"))
    control_plane.kubectl("scale", "tq/scaled", "-n", namespace, "--replicas=3")
    seen = control_plane.request("GET", queue_path(namespace, "scaled"))
    assert seen["spec"]["scaling"]["replicas"] == 3
    scale = control_plane.request("GET", queue_path(namespace, "scaled", "scale"))
    assert scale["spec"]["replicas"] == 3
    patch = '{"spec":{"scaling":{"replicas":null}}}'
    control_plane.kubectl("patch", "tq", "scaled", "-n", namespace, "--type", "merge", "-p", patch)
    assert "replicas" not in control_plane.request("GET", queue_path(namespace, "scaled"))["spec"]["scaling"]


def test_unknown_fields_are_refused(control_plane: ControlPlane, namespace: str) -> None:
    """A typing error is told by kubectl apply, not silently dropped."""
    queue = build_task_queue(namespace, "typo", scaling={"maxReplica": 3})
    done = control_plane.try_kubectl("apply", "-f", "-", stdin=json.dumps(queue))
    assert done.returncode != 0
    assert 'unknown field "spec.scaling.maxReplica"' in done.stderr


def test_kubernetes_own_fields_pass(control_plane: ControlPlane, namespace: str) -> None:
    """env, envFrom, resources and template are Kubernetes' own: kept as written."""
    worker = {
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "envFrom": [{"secretRef": {"name": "s"}}],
        "resources": {"limits": {"cpu": "1"}},
        "template": {"spec": {"nodeSelector": {"a": "b"}}},
    }
    path = queue_path(namespace) + "?fieldValidation=Strict"
    kept = control_plane.request("POST", path, build_task_queue(namespace, "open", worker=worker))
    assert worker.items() <= kept["spec"]["worker"].items()


def find_undescribed(schema: dict[str, Any], path: str = "") -> list[str]:
    """Fields without a description."""
    missing = []
    for name, child in schema.get("properties", {}).items():
        if not child.get("description") and f"{path}.{name}" not in {".metadata", ".spec.worker.env[].name"}:
            missing.append(f"{path}.{name}")
        missing += find_undescribed(child, f"{path}.{name}")
    if "items" in schema:
        missing += find_undescribed(schema["items"], f"{path}[]")
    return missing


def test_every_field_is_described() -> None:
    """`kubectl explain` has words for every field."""
    assert find_undescribed(SCHEMA) == []


def test_explain_reads_like_documentation(control_plane: ControlPlane) -> None:
    """`kubectl explain tq.spec.scaling` tells what each field means, its choices and its default."""
    text = " ".join(control_plane.kubectl("explain", "tq.spec.scaling").split())
    properties = SCHEMA["properties"]["spec"]["properties"]["scaling"]["properties"]
    for name, field in properties.items():
        assert name in text
        assert " ".join(field["description"].split()) in text
    assert "enum: Active, DryRun, External" in text
    assert "Default: 60." in text
