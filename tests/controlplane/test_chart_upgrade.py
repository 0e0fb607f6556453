"""The chart of the version before upgraded to this one and rolled back, as the API server takes it (nothing runs)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.chart import CHART, run_helm
from tests.support.controlplane import ControlPlane
from tests.upgrades.previous import unpack_previous

RELEASE = "taskfleet"
# The CRDs belong to all tests of this control plane.
VALUES = {"crd": {"enabled": False}, "operator": {"scope": "namespace"}, "rbac": {"aggregateToUserRoles": False}}
KINDS = ("deployments", "statefulsets", "secrets")
Objects = Mapping[tuple[str, str], dict[str, Any]]


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The chart before."""
    return unpack_previous(tmp_path) / "charts" / "taskfleet"


def test_an_upgrade_is_accepted_keeps_passwords_and_can_be_taken_back(
    control_plane: ControlPlane, previous: Path
) -> None:
    namespace = control_plane.make_namespace("upgrade")

    def helm(*arguments: str, values: str | None = None) -> Objects:
        where = ["--namespace", namespace]
        run_helm(*arguments, *where, stdin=values, kubeconfig=control_plane.kubeconfig)
        return fetch_objects(control_plane, namespace)

    upgrade = ["upgrade", RELEASE, str(CHART), "--reset-then-reuse-values"]
    before = helm("install", RELEASE, str(previous), "--values", "-", values=json.dumps(VALUES))
    upgraded = helm(*upgrade)
    rolled_back = helm("rollback", RELEASE, "1")
    again = helm(*upgrade)

    # No field that Kubernetes never changes was changed, or helm would have failed; a second time changes nothing.
    assert get_templates(rolled_back) == get_templates(before)
    assert get_templates(again) == get_templates(upgraded)
    for objects in (upgraded, rolled_back, again):
        assert get_passwords(before).items() <= get_passwords(objects).items()
    assert get_passwords(again) == get_passwords(upgraded)  # also those that only this version makes


def fetch_objects(plane: ControlPlane, namespace: str) -> Objects:
    """What pods are made of, by kind and name."""
    found = {}
    for kind in KINDS:
        group = "/api/v1" if kind == "secrets" else "/apis/apps/v1"
        for item in plane.request("GET", f"{group}/namespaces/{namespace}/{kind}")["items"]:
            found[kind, item["metadata"]["name"]] = item
    return found


def get_templates(objects: Objects) -> dict[str, Any]:
    """The pods' templates: what is the same leaves the pods alone."""
    return {name: item["spec"]["template"] for (kind, name), item in objects.items() if kind != "secrets"}


def get_passwords(objects: Objects) -> dict[tuple[str, str], str]:
    """Everything generated, by Secret and key."""
    words = ("password", "cookie", "key")
    return {
        (name, key): value
        for (kind, name), item in objects.items()
        if kind == "secrets" and not name.startswith("sh.helm.")
        for key, value in (item.get("data") or {}).items()
        if key.lower().endswith(words)
    }
