"""The operator's rights as the chart ships them, bound to a ServiceAccount of a test."""

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml
from tests.support.controlplane import ROOT, ControlPlane, find_binaries

__all__ = ["bind_rights", "render_rules"]

RBAC = "/apis/rbac.authorization.k8s.io/v1"


@functools.cache
def render_rules(scope: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rules of the chart's operator in a scope (`cluster` or `namespace`), and those for its Lease."""
    command = [str(find_binaries() / "helm"), "template", "taskfleet", str(ROOT / "charts/taskfleet")]
    command += ["--kube-version", "1.34.4", "--set", f"operator.scope={scope}"]
    command += ["--show-only", "templates/operator/rbac.yaml"]
    rendered = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert rendered.returncode == 0, rendered.stderr
    roles = [item for item in yaml.safe_load_all(rendered.stdout) if item and item["kind"] in {"Role", "ClusterRole"}]
    lease = next(role for role in roles if role["metadata"]["name"].endswith("-lease"))
    (main,) = [role for role in roles if role is not lease]
    assert main["kind"] == ("ClusterRole" if scope == "cluster" else "Role")
    return main["rules"], lease["rules"]


def bind_rights(
    plane: ControlPlane, namespace: str, *, cluster_wide: bool = False, name: str = "operator", port: int | None = None
) -> Path:
    """Make a ServiceAccount in the namespace with the operator's rights; returns its kubeconfig."""
    token = plane.make_account(namespace, name)
    rules, lease_rules = render_rules("cluster" if cluster_wide else "namespace")
    scope = "" if cluster_wide else f"/namespaces/{namespace}"
    kind = "ClusterRole" if cluster_wide else "Role"
    _bind(plane, scope, kind, f"{namespace}-{name}" if cluster_wide else name, rules, (namespace, name))
    _bind(plane, f"/namespaces/{namespace}", "Role", f"{name}-lease", lease_rules, (namespace, name))
    return plane.write_kubeconfig(f"{namespace}-{name}", token, port)


def _bind(
    plane: ControlPlane, scope: str, kind: str, name: str, rules: list[dict[str, Any]], account: tuple[str, str]
) -> None:
    metadata = {"name": name}
    plane.request("POST", f"{RBAC}{scope}/{kind.lower()}s", {"metadata": metadata, "rules": rules})
    binding = {
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": account[0], "name": account[1]}],
    }
    plane.request("POST", f"{RBAC}{scope}/{kind.lower()}bindings", binding)
