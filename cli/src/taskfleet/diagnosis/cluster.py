"""Checks of an installation in a cluster: version, CRD, clock, the parts of the release, rights, TaskQueues."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from taskfleet.diagnosis.finding import Finding, Verdict
from taskfleet.diagnosis.leading import check_clock, check_leader, check_progress, check_worker_packages
from taskfleet.diagnosis.rights import CRD, check_operator_rights, check_own_rights
from taskfleet.errors import UnavailableError
from taskfleet.kubectl import fetch_json, run_kubectl

__all__ = ["check_cluster"]

LEAST_VERSION = (1, 30)
UPGRADE = "helm upgrade --install taskfleet charts/taskfleet -n {namespace} --reset-then-reuse-values"


def check_cluster(namespace: str) -> Iterator[Finding]:
    """What there is to say about the release in this namespace; ends early where no cluster answers."""
    try:
        server = fetch_json("version")["serverVersion"]
    except (UnavailableError, ValueError, KeyError) as error:
        fix = "set KUBECONFIG or choose a context: `kubectl config get-contexts`"
        yield Finding("cluster", Verdict.PROBLEM, f"no cluster answers: {error}", fix)
        return
    yield _check_version(server)
    yield from _guard("crd", _check_crd)
    clock, ahead = check_clock()
    yield from clock
    now = datetime.now(UTC) + ahead
    yield from _guard("release", lambda: _check_release(namespace, now))
    yield from _guard("your rights", lambda: check_own_rights(namespace))
    yield from _guard("worker versions", check_worker_packages)
    yield from _guard("taskqueues", lambda: _check_task_queues(namespace, now))


def _guard(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What may not be read is told, and the other checks go on."""
    try:
        yield from check()
    except (UnavailableError, ValueError, KeyError) as error:
        verdict = Verdict.NOTE if "forbidden" in str(error).lower() else Verdict.PROBLEM
        yield Finding(name, verdict, f"cannot be looked at: {error}", "ask for the right to read it")


def _check_version(server: Mapping[str, str]) -> Finding:
    numbers = tuple(int(re.sub(r"\D", "", server[name]) or 0) for name in ("major", "minor"))
    if numbers >= LEAST_VERSION:
        return Finding("cluster", Verdict.OK, f"Kubernetes {server['gitVersion']}")
    least = ".".join(map(str, LEAST_VERSION))
    return Finding("cluster", Verdict.PROBLEM, f"Kubernetes {server['gitVersion']}", f"upgrade it to {least} or later")


def _check_crd() -> Iterator[Finding]:
    from taskfleet_core.crd import build_crd

    fix = "kubectl apply --server-side -f k8s/crd"
    if not run_kubectl("get", "customresourcedefinition", CRD, "--ignore-not-found", "-o", "name").strip():
        yield Finding("crd", Verdict.PROBLEM, f"{CRD} is not there", fix)
        return
    found = fetch_json("get", "customresourcedefinition", CRD)
    (ours,) = build_crd()["spec"]["versions"]
    theirs = {item["name"]: item["schema"] for item in found["spec"]["versions"]}
    if theirs.get(ours["name"]) == ours["schema"]:
        yield Finding("crd", Verdict.OK, f"{CRD} {ours['name']}, as this command knows it")
    else:
        detail = f"{CRD} is of another version than this command ({version('taskfleet')})"
        yield Finding("crd", Verdict.NOTE, detail, f"upgrade the older one; the CRD by `{fix}`")


def _check_release(namespace: str, now: datetime) -> Iterator[Finding]:
    selector = "app.kubernetes.io/part-of=taskfleet"
    items = fetch_json("get", "deployments,statefulsets", "-n", namespace, "-l", selector)["items"]
    if not items:
        fix = f"name its namespace with --namespace, or install it: `{UPGRADE.format(namespace=namespace)}`"
        yield Finding("release", Verdict.PROBLEM, f"nothing of Taskfleet is in namespace {namespace}", fix)
        return
    for item in items:
        yield _check_part(item, namespace)
        if item["metadata"]["labels"].get("app.kubernetes.io/component") == "operator":
            yield from _check_operator(item, namespace, now)


def _check_operator(item: Mapping[str, Any], namespace: str, now: datetime) -> Iterator[Finding]:
    """Who leads, and what it may do; `item` is its Deployment."""
    pod, name = item["spec"]["template"]["spec"], item["metadata"]["name"]
    (container, *_) = pod["containers"]
    settings = {entry["name"]: entry.get("value", "") for entry in container.get("env", ())}
    lease = settings.get("TASKFLEET_OPERATOR_LEASE_NAME") or name
    logs = f"kubectl -n {namespace} logs deployment/{name}"
    yield from _guard("leader", lambda: check_leader(namespace, lease, now, logs))
    account = pod.get("serviceAccountName", "default")
    served = settings.get("TASKFLEET_OPERATOR_NAMESPACE", "")
    fix = f"`{UPGRADE.format(namespace=namespace)}` with rbac.create, or bind the chart's role to {account} yourself"
    yield from _guard("operator rights", lambda: check_operator_rights(namespace, account, served, lease, fix))


def _check_part(item: Mapping[str, Any], namespace: str) -> Finding:
    name = f"{item['kind'].lower()} {item['metadata']['name']}"
    wanted, ready = item["spec"].get("replicas", 1), item.get("status", {}).get("readyReplicas", 0)
    installed = item["metadata"]["labels"].get("app.kubernetes.io/version", "unknown")
    if ready < wanted:
        fix = f"kubectl -n {namespace} describe {name.replace(' ', '/')}; then the logs of its pods"
        return Finding("release", Verdict.PROBLEM, f"{name}: {ready} of {wanted} pods are ready", fix)
    if installed != version("taskfleet"):
        detail = f"{name}: version {installed}, this command {version('taskfleet')}"
        return Finding("release", Verdict.NOTE, detail, UPGRADE.format(namespace=namespace))
    return Finding("release", Verdict.OK, f"{name}: {ready} of {wanted} pods are ready")


def _check_task_queues(namespace: str, now: datetime) -> Iterator[Finding]:
    items = fetch_json("get", CRD, "--all-namespaces", "--show-managed-fields")["items"]
    logs = f"kubectl -n {namespace} logs -l app.kubernetes.io/part-of=taskfleet,app.kubernetes.io/component=operator"
    findings = [*check_progress(items, now, logs), *_check_conditions(items)]
    yield from findings or [Finding("taskqueues", Verdict.OK, f"{len(items)}, none in trouble")]


def _check_conditions(items: list[dict[str, Any]]) -> Iterator[Finding]:
    """Ready is enough: it repeats the first of the others that is wrong."""
    for item in items:
        name = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        for condition in item.get("status", {}).get("conditions", ()):
            if condition["type"] == "Ready" and condition["status"] == "False":
                detail = f"{name} is not Ready: {condition['reason']}: {condition['message']}"
                yield Finding("taskqueues", Verdict.PROBLEM, detail, f"see docs/conditions.md on {condition['reason']}")
