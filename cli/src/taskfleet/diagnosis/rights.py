"""Whether the operator and the caller may do what they have to: one access review for each right, asked all at once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskfleet.diagnosis.finding import Finding, Verdict
from taskfleet.errors import UnavailableError
from taskfleet.kubectl import create_objects, fetch_json, run_kubectl

__all__ = ["Subject", "check_operator_rights", "check_own_rights", "find_missing"]

CRD = "taskqueues.taskfleet.dev"
# Without these the operator can do nothing; all its rights are in the chart.
OPERATOR_NEEDS: Mapping[str, Sequence[str]] = {
    CRD: ("list", "watch"),
    f"{CRD}/status": ("update",),
    "deployments.apps": ("list", "watch", "create", "patch"),
    "deployments.apps/scale": ("patch",),
    "pods": ("list", "watch", "patch"),
    "secrets": ("get", "create", "patch"),
    "configmaps": ("list", "watch", "create", "patch"),
    "events": ("create",),
}
LEADING_NEEDS: Mapping[str, Sequence[str]] = {"leases.coordination.k8s.io": ("get", "update")}
CALLER_NEEDS: Mapping[str, Sequence[str]] = {CRD: ("get", "list", "create", "patch")}
# What `kubectl taskfleet` does in the namespace of the release.
PLUGIN_NEEDS: Mapping[str, Sequence[str]] = {
    "services": ("get", "list"),
    "pods": ("list",),
    "pods/portforward": ("create",),
}
AUTHORIZATION = "authorization.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose rights are asked about, and where. Without a namespace: in all of them; without `user`: the caller."""

    namespace: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    name: str = ""  # of the one object that it is about

    @classmethod
    def of_account(cls, namespace: str, account: str, where: str, name: str = "") -> "Subject":
        """A ServiceAccount and what it may do in the namespace `where`."""
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return cls(where, f"system:serviceaccount:{namespace}:{account}", groups, name)


def check_operator_rights(namespace: str, account: str, served: str, lease: str, fix: str) -> Iterator[Finding]:
    """Those of the operator's ServiceAccount: in the namespace that it serves (empty: all), and to its Lease."""
    try:
        missing = find_missing(OPERATOR_NEEDS, Subject.of_account(namespace, account, served))
        missing += find_missing(LEADING_NEEDS, Subject.of_account(namespace, account, namespace, lease))
    except UnavailableError as error:
        fix = "ask an administrator to run this: it takes the right to create subjectaccessreviews"
        yield Finding("operator rights", Verdict.NOTE, f"not looked at: {error}", fix)
        return
    where = f"in namespace {served}" if served else "in all namespaces"
    if missing:
        yield Finding("operator rights", Verdict.PROBLEM, f"missing {where}: {', '.join(missing)}", fix)
    else:
        yield Finding("operator rights", Verdict.OK, f"complete {where}")


def check_own_rights(namespace: str) -> Iterator[Finding]:
    """The caller's: to TaskQueues in the namespace of the context, and to reach the API in that of the release."""
    home = fetch_home()
    user = fetch_json("auth", "whoami")["status"]["userInfo"]["username"]
    if missing := find_missing(CALLER_NEEDS, Subject(home)):
        bind = f"kubectl create rolebinding taskfleet-user --clusterrole=edit --user={user} -n {home}"
        detail = f"{user} lacks in {home}: {', '.join(missing)}"
        yield Finding("your rights", Verdict.PROBLEM, detail, f"an administrator runs `{bind}`")
    else:
        yield Finding("your rights", Verdict.OK, f"{user} may keep TaskQueues in {home}")
    if missing := find_missing(PLUGIN_NEEDS, Subject(namespace)):
        fix = "set TASKFLEET_URL to an address of the API that you can reach, and TASKFLEET_API_KEY"
        detail = f"no port-forward to the API: {user} lacks in {namespace}: {', '.join(missing)}"
        yield Finding("your rights", Verdict.NOTE, detail, fix)


def fetch_home() -> str:
    """The namespace of kubectl's context."""
    return run_kubectl("config", "view", "--minify", "-o", "jsonpath={..namespace}").strip() or "default"


def find_missing(needs: Mapping[str, Sequence[str]], subject: Subject) -> list[str]:
    """`verb resource` of each that is not allowed. Raises UnavailableError when it may not be asked."""
    wanted = [(verb, resource) for resource, verbs in needs.items() for verb in verbs]
    answers = create_objects(build_review(verb, resource, subject) for verb, resource in wanted)
    return [
        f"{verb} {resource}"
        for (verb, resource), answer in zip(wanted, answers, strict=True)
        if not answer["status"].get("allowed")
    ]


def build_review(verb: str, resource: str, subject: Subject) -> dict[str, Any]:
    """The question whether one verb on `plural.group/subresource` is allowed."""
    full, _, subresource = resource.partition("/")
    plural, _, group = full.partition(".")
    attributes = {"verb": verb, "resource": plural, "group": group, "subresource": subresource}
    attributes |= {"namespace": subject.namespace, "name": subject.name}
    spec: dict[str, Any] = {"resourceAttributes": {key: value for key, value in attributes.items() if value}}
    if not subject.user:
        return {"apiVersion": AUTHORIZATION, "kind": "SelfSubjectAccessReview", "spec": spec}
    spec |= {"user": subject.user, "groups": list(subject.groups)}
    return {"apiVersion": AUTHORIZATION, "kind": "SubjectAccessReview", "spec": spec}
