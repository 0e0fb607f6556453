"""What is kept of an object says the same as the object did, and shares with others what it has in common with them."""

import json
from typing import Any

from taskfleet_operator.compacting import compact, share


def build_deployment(name: str, **spec: Any) -> dict[str, Any]:
    """As the API server tells it: parsed by itself."""
    managed = [
        {"manager": "taskfleet-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {}}}},
        {"manager": "taskfleet-scale", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:x": {}}}},
        {"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": {"f:status": {}}},
        {"manager": "odd", "operation": "Update"},
    ]
    container = {"name": "worker", "env": [{"name": "CELERY_LOADER", "value": "taskfleet_worker.loader:Loader"}]}
    manifest = {
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "7", "managedFields": managed},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [container]}}, **spec},
    }
    parsed: dict[str, Any] = json.loads(json.dumps(manifest))
    return parsed


def test_all_but_the_managers_of_fields_is_kept() -> None:
    manifest = build_deployment("thumbs", odd=[None, 1, 2.5, True, "", {}, [], {"a": []}])
    kept = compact(manifest)
    assert {**kept, "metadata": None} == {**manifest, "metadata": None}
    assert kept["metadata"].items() >= {"name": "thumbs", "namespace": "shop", "resourceVersion": "7"}.items()


def test_who_manages_the_replicas_is_kept() -> None:
    (owner,) = compact(build_deployment("thumbs"))["metadata"]["managedFields"]
    assert owner["manager"] == "taskfleet-scale"
    assert owner["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    alone = {"metadata": {"name": "x", "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:data": {}}}]}}
    assert compact(alone) == {"metadata": {"name": "x"}}


def test_two_objects_share_what_they_have_in_common() -> None:
    one, other = (compact(build_deployment(name))["spec"]["template"]["spec"]["containers"][0] for name in "ab")
    assert one["env"][0] is other["env"][0]
    assert one["name"] is other["name"]


def test_what_python_takes_for_equal_stays_what_it_was() -> None:
    """Another type is another object to the API server, and another hash."""
    values = [{"a": 1}, {"a": True}, {"a": 1.0}, {"a": "1"}, {"a": 0}, {"a": False}]
    assert [json.dumps(share(value)) for value in values] == [json.dumps(value) for value in values]


def test_what_was_read_is_not_changed() -> None:
    manifest = build_deployment("thumbs")
    before = json.dumps(manifest)
    compact(manifest)
    assert json.dumps(manifest) == before
