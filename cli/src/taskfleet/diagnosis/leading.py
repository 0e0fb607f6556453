"""Checks of the operator at work: who leads, by which clocks, whether TaskQueues are followed, what workers run."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from taskfleet.diagnosis.finding import Finding, Verdict, name_some
from taskfleet.diagnosis.rights import fetch_home
from taskfleet.errors import UnavailableError
from taskfleet.kubectl import create_objects, fetch_json, run_kubectl

__all__ = ["check_clock", "check_leader", "check_progress", "check_worker_packages"]

MOST_SKEW = timedelta(seconds=5)
LATE = timedelta(seconds=30)  # a TaskQueue is taken up within a second or two
ROUNDING_SECONDS = 0.5  # Kubernetes cuts times off to whole seconds
MANAGED = "app.kubernetes.io/managed-by=taskfleet-operator"
PACKAGE_PREFIX = "taskfleet-worker-"
PROBE = {
    "apiVersion": "taskfleet.dev/v1alpha1",
    "kind": "TaskQueue",
    "metadata": {"generateName": "taskfleet-doctor-"},
    "spec": {"worker": {"image": "registry.example/none", "app": "none:app"}},
}


def check_clock() -> tuple[list[Finding], timedelta]:
    """How far the API server's clock is ahead of ours, told by a TaskQueue that it checks and does not keep.

    Also whether it accepts a sound TaskQueue at all: CRD, webhooks and quotas have their say.
    """
    before = datetime.now(UTC)
    try:
        (probe,) = create_objects([PROBE], "--dry-run=server", "-n", fetch_home())
    except UnavailableError as error:
        detail = f"a TaskQueue would be refused: {error}"
        return [Finding("admission", Verdict.NOTE, detail, "see `crd` and `your rights`")], timedelta()
    taken = datetime.now(UTC) - before
    theirs = datetime.fromisoformat(probe["metadata"]["creationTimestamp"]) + timedelta(seconds=ROUNDING_SECONDS)
    ahead = theirs - (before + taken / 2)
    clock = _judge_clock(ahead.total_seconds(), (MOST_SKEW + taken / 2).total_seconds())
    return [Finding("admission", Verdict.OK, "a TaskQueue would be accepted"), clock], ahead


def _judge_clock(skew_seconds: float, most_seconds: float) -> Finding:
    if abs(skew_seconds) <= most_seconds:
        return Finding("cluster clock", Verdict.OK, f"within {MOST_SKEW.seconds} s of this machine's")
    side = "ahead of" if skew_seconds > 0 else "behind"
    detail = f"the API server's clock is {abs(skew_seconds):.0f} s {side} this machine's"
    return Finding("cluster clock", Verdict.PROBLEM, detail, "synchronise both (NTP): ages and schedules go by clocks")


def check_leader(namespace: str, lease: str, now: datetime, logs: str) -> Iterator[Finding]:
    """Whether an operator holds its Lease and renews it; `now` by the API server, `logs` shows the operator's log."""
    found = run_kubectl("get", "lease", lease, "-n", namespace, "--ignore-not-found", "-o", "name").strip()
    spec: Mapping[str, Any] = fetch_json("get", "lease", lease, "-n", namespace).get("spec", {}) if found else {}
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if not holder or not renewed:
        detail = f"no operator leads: Lease {namespace}/{lease} is free, so nothing is scaled"
        yield Finding("leader", Verdict.PROBLEM, detail, f"`{logs}` says what keeps it from leading")
        return
    age = now - datetime.fromisoformat(renewed)
    seconds = age.total_seconds()
    if age > timedelta(seconds=spec.get("leaseDurationSeconds") or 0) + MOST_SKEW:
        detail = f"{holder} has not renewed Lease {namespace}/{lease} for {seconds:.0f} s: nothing is scaled"
        yield Finding("leader", Verdict.PROBLEM, detail, f"`{logs}` says why; another takes over once one is up")
    elif age < -MOST_SKEW:
        detail = f"{holder} leads by a clock that is {-seconds:.0f} s ahead of the API server's"
        yield Finding("leader", Verdict.PROBLEM, detail, "synchronise the clocks of the nodes (NTP)")
    else:
        yield Finding("leader", Verdict.OK, f"{holder}, renewed {max(0, seconds):.0f} s ago")


def check_progress(queues: list[dict[str, Any]], now: datetime, logs: str) -> Iterator[Finding]:
    """Whether the operator has taken up the newest spec of each TaskQueue; `logs` shows the log of the operator."""
    behind = [
        f"{queue['metadata']['namespace']}/{queue['metadata']['name']}"
        for queue in queues
        if queue.get("status", {}).get("observedGeneration", 0) < queue["metadata"]["generation"]
        and now - _find_changed(queue) > LATE
    ]
    if behind:
        fix = f"`{logs}`; does an operator serve its namespace and its label taskfleet.dev/shard?"
        detail = f"the operator does not follow the newest spec of {name_some(behind)}"
        yield Finding("taskqueues", Verdict.PROBLEM, detail, fix)


def _find_changed(queue: Mapping[str, Any]) -> datetime:
    """When the spec was last written, as far as the fields' managers tell."""
    metadata = queue["metadata"]
    managers = [item for item in metadata.get("managedFields", ()) if item.get("subresource") != "status"]
    times = (item["time"] for item in managers if "time" in item)
    return datetime.fromisoformat(max((metadata["creationTimestamp"], *times)))


def check_worker_packages() -> Iterator[Finding]:
    """Whether all workers' Deployments mount the same Taskfleet package, which the newest operator made."""
    options = ("-A", "-l", MANAGED)
    maps = fetch_json("get", "configmaps", *options)["items"]
    made = {item["metadata"]["name"]: item["metadata"]["creationTimestamp"] for item in maps}
    used: dict[str, list[str]] = {}
    for item in fetch_json("get", "deployments", *options)["items"]:
        name = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
        for volume in item["spec"]["template"]["spec"].get("volumes", ()):
            package = (volume.get("configMap") or {}).get("name", "")
            if package.startswith(PACKAGE_PREFIX):
                used.setdefault(package, []).append(name)
    if len(used) > 1:
        newest = max(used, key=lambda package: made.get(package, ""))
        old = [name for package, names in used.items() if package != newest for name in names]
        detail = f"not on the newest worker package ({newest}) yet: {name_some(sorted(old))}"
        fix = "an upgrade rolls them a few at a time; if this stays, see their TaskQueues' conditions"
        yield Finding("worker versions", Verdict.NOTE, detail, fix)
    elif used:
        yield Finding("worker versions", Verdict.OK, f"all run {next(iter(used))}")
