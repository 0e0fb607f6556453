"""Checks of an installation in a cluster: version, CRD, the parts of the release, rights, TaskQueues."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from taskfleet.diagnosis.finding import Finding, Verdict
from taskfleet.errors import UnavailableError
from taskfleet.kubectl import fetch_json, run_kubectl

__all__ = ["OPERATOR_NEEDS", "check_cluster"]

LEAST_VERSION = (1, 30)
CRD = "taskqueues.taskfleet.dev"
# Without these the operator can do nothing; all its rights are in the chart.
OPERATOR_NEEDS: Mapping[str, frozenset[str]] = {
    CRD: frozenset({"list", "watch"}),
    f"{CRD}/status": frozenset({"update"}),
    "deployments.apps": frozenset({"list", "watch", "create", "patch"}),
    "deployments.apps/scale": frozenset({"patch"}),
    "pods": frozenset({"list", "watch", "patch"}),
    "secrets": frozenset({"get", "create", "patch"}),
    "configmaps": frozenset({"list", "watch", "create", "patch"}),
    "events": frozenset({"create"}),
}
CALLER_NEEDS: Mapping[str, frozenset[str]] = {CRD: frozenset({"get", "list", "create", "patch"})}
RIGHT = re.compile(r"^(\S+)\s+\[.*?\]\s+\[(.*?)\]\s+\[(.*?)\]\s*$")
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
    checks: tuple[Callable[[str], Iterator[Finding]], ...] = (
        _check_crd,
        _check_parts,
        _check_own_rights,
        _check_task_queues,
    )
    for check in checks:
        try:
            yield from check(namespace)
        except (UnavailableError, ValueError, KeyError) as error:
            name = check.__name__.removeprefix("_check_").replace("_", " ")
            yield Finding(name, Verdict.PROBLEM, f"cannot be looked at: {error}", "ask for the right to read it")


def _check_version(server: Mapping[str, str]) -> Finding:
    numbers = tuple(int(re.sub(r"\D", "", server[name]) or 0) for name in ("major", "minor"))
    if numbers >= LEAST_VERSION:
        return Finding("cluster", Verdict.OK, f"Kubernetes {server['gitVersion']}")
    least = ".".join(map(str, LEAST_VERSION))
    return Finding("cluster", Verdict.PROBLEM, f"Kubernetes {server['gitVersion']}", f"upgrade it to {least} or later")


def _check_crd(namespace: str) -> Iterator[Finding]:
    from taskfleet_core.crd import build_crd

    found = fetch_json("get", "customresourcedefinition", CRD, "--ignore-not-found") if _exists(CRD) else None
    fix = "kubectl apply --server-side -f k8s/crd"
    if found is None:
        yield Finding("crd", Verdict.PROBLEM, f"{CRD} is not there", fix)
        return
    (ours,) = build_crd()["spec"]["versions"]
    theirs = {item["name"]: item["schema"] for item in found["spec"]["versions"]}
    if theirs.get(ours["name"]) == ours["schema"]:
        yield Finding("crd", Verdict.OK, f"{CRD} {ours['name']}, as this command knows it")
    else:
        detail = f"{CRD} is of another version than this command ({version('taskfleet')})"
        yield Finding("crd", Verdict.NOTE, detail, f"upgrade the older one; the CRD by `{fix}`")


def _exists(crd: str) -> bool:
    return bool(run_kubectl("get", "customresourcedefinition", crd, "--ignore-not-found", "-o", "name").strip())


def _check_parts(namespace: str) -> Iterator[Finding]:
    selector = "app.kubernetes.io/part-of=taskfleet"
    items = fetch_json("get", "deployments,statefulsets", "-n", namespace, "-l", selector)["items"]
    if not items:
        fix = f"name its namespace with --namespace, or install it: `{UPGRADE.format(namespace=namespace)}`"
        yield Finding("release", Verdict.PROBLEM, f"nothing of Taskfleet is in namespace {namespace}", fix)
        return
    for item in items:
        yield _check_part(item, namespace)
        labels = item["metadata"]["labels"]
        if labels.get("app.kubernetes.io/component") == "operator":
            account = item["spec"]["template"]["spec"].get("serviceAccountName", "default")
            yield from _check_operator_rights(namespace, account)


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


def _check_operator_rights(namespace: str, account: str) -> Iterator[Finding]:
    """By impersonation, which needs a right of its own."""
    who = f"system:serviceaccount:{namespace}:{account}"
    try:
        rights = fetch_rights(namespace, who)
    except UnavailableError as error:
        fix = "ask somebody who may impersonate (cluster-admin) to run this"
        yield Finding("operator rights", Verdict.NOTE, f"not looked at: {error}", fix)
        return
    fix = f"`{UPGRADE.format(namespace=namespace)}` with rbac.create, or bind the chart's role to {account} yourself"
    yield _judge_rights("operator rights", rights, OPERATOR_NEEDS, fix)


def _check_own_rights(namespace: str) -> Iterator[Finding]:
    fix = f"kubectl create rolebinding {{you}} --clusterrole=edit --user={{you}} -n {namespace}, by an administrator"
    yield _judge_rights("your rights", fetch_rights(namespace), CALLER_NEEDS, fix)


def fetch_rights(namespace: str, who: str | None = None) -> dict[str, set[str]]:
    """The verbs by resource of the caller, or of `who`. Rights to single named objects do not count."""
    impersonation = (f"--as={who}",) if who else ()
    listed = run_kubectl("auth", "can-i", "--list", "--no-headers", "-n", namespace, *impersonation)
    rights: dict[str, set[str]] = {}
    for line in listed.splitlines():
        found = RIGHT.match(line)
        if found and not found[2]:
            rights.setdefault(found[1], set()).update(found[3].split())
    return rights


def _judge_rights(check: str, rights: Mapping[str, set[str]], needs: Mapping[str, frozenset[str]], fix: str) -> Finding:
    missing = [
        f"{verb} {resource}"
        for resource, verbs in needs.items()
        for verb in sorted(verbs - _find_verbs(rights, resource))
    ]
    if missing:
        return Finding(check, Verdict.PROBLEM, f"missing: {', '.join(missing)}", fix)
    return Finding(check, Verdict.OK, "complete")


def _find_verbs(rights: Mapping[str, set[str]], resource: str) -> set[str]:
    name, _, subresource = resource.partition("/")
    group = name.partition(".")[2]
    patterns: Iterable[str] = (resource, "*.*", f"*.{group}" if group else "*", f"*/{subresource}")
    verbs = set().union(*(rights.get(pattern, set()) for pattern in patterns))
    every = {"get", "list", "watch", "create", "update", "patch", "delete"}
    return verbs | every if "*" in verbs else verbs


def _check_task_queues(namespace: str) -> Iterator[Finding]:
    items = fetch_json("get", CRD, "--all-namespaces")["items"]
    bad = 0
    for item in items:
        name = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        for condition in item.get("status", {}).get("conditions", ()):
            if condition["type"] in ("Ready", "MetricsAvailable", "WorkersHealthy") and condition["status"] == "False":
                bad += 1
                detail = f"{name}: {condition['type']} is False: {condition['reason']}: {condition['message']}"
                yield Finding("taskqueues", Verdict.PROBLEM, detail, f"see docs/conditions.md on {condition['reason']}")
    if not bad:
        yield Finding("taskqueues", Verdict.OK, f"{len(items)}, none in trouble")
