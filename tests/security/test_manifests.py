"""All that runs on Kubernetes passes the restricted Pod Security Standard and has no right that it does not use.

The rules are those of the standard's page in the documentation of Kubernetes and of the section on workloads in the CIS
benchmark (5.1 and 5.2), which kube-bench asks about. A finding is either mended or explained here.
"""

import copy
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.chart import ROOT, Manifest, Rendered, build_pods, load_all_options, render_chart

from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.children.deployment import build_deployment
from taskfleet_operator.children.service_account import build_service_account
from taskfleet_operator.observed import Credentials

TLS = {"tls": {"enabled": True, "issuer": {"name": "authority"}}, "flower": {"enabled": True}}
RENDERINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "tls": TLS,
    "all options": load_all_options(),
    "kubernetes tokens": {"api": {"auth": {"kubernetes": True}}, "flower": {"enabled": True}},
}
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
KUBE_SCORE = shutil.which("kube-score")
WARNING = 5  # of its grades, from 1 (critical) to 10
HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC", "hostUsers")

# What is left, and why it may be.
EXPLAINED = {
    (
        "worker",
        "writable root",
    ): "the image is the user's, and apps write beside their code; spec.worker.template closes it",
    (
        "worker",
        "unbounded disk",
    ): "how much a task writes to /tmp is the app's affair; spec.worker.template sets a limit",
    ("valkey", "unbounded disk"): "with persistence off, which is for trying out, its data",
    ("rabbitmq", "unbounded disk"): "with persistence off, which is for trying out, its data",
    ("postgresql", "unbounded disk"): "with persistence off, which is for trying out, its data",
    ("operator", "token"): "it works through the Kubernetes API; its role names what it may do",
    ("api", "token"): "with api.auth.kubernetes it asks who a caller is; without, it has none",
    ("create-secrets", "token"): "it may create secrets in its namespace, nothing else, and ends after a minute",
}
# The same of what kube-score finds, where it is installed.
SCORES = {
    "container-resources": "requests share the CPU out; a limit would slow heartbeats down beside idle cores",
    "container-ephemeral-storage-request-and-limit": "root is read-only, and each emptyDir has a limit of its own",
    "container-image-pull-policy": "tags are versions, and image.digest pins the content",
    "container-security-context-user-group-id": "the official images' own user, who owns the files in their volumes",
    "pod-networkpolicy": "policies say who may come in; nobody connects to the test's pod",
    "pod-probes-identical": "a single server has nobody to hand its clients to: it is ready while it lives",
    "statefulset-has-servicename": "single servers, reached by their Service and not by the pod's own name",
    "deployment-replicas": "one operator leads; Flower is for looking",
    "deployment-has-host-podantiaffinity": "topologySpreadConstraints do it",
    "statefulset-has-host-podantiaffinity": "topologySpreadConstraints do it",
    "service-type": "only where api.service.type says so",
}
SECRET_RULES = {"operator": "TaskQueues name a Secret for their broker, and each has one for its workers"}


def find_findings(pod: Manifest) -> Iterator[str]:
    """What the pod may do beyond the restricted standard, and what kube-bench would ask about."""
    spec = pod["spec"]
    yield from (field for field in HOST_FIELDS if spec.get(field))
    for volume in spec.get("volumes", ()):
        yield from (f"volume {kind}" for kind in set(volume) - {"name"} - VOLUMES)
        if "sizeLimit" not in volume.get("emptyDir", {"sizeLimit": None}):
            yield "unbounded disk"
    if spec.get("automountServiceAccountToken", True):
        yield "token"
    for container in [*spec.get("initContainers", ()), *spec["containers"], *spec.get("ephemeralContainers", ())]:
        yield from find_container_findings(container, spec.get("securityContext", {}))


def find_container_findings(container: Manifest, of_pod: Manifest) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**of_pod, **own}
    if not both.get("runAsNonRoot") or both.get("runAsUser") == 0:
        yield "root"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "no seccomp"
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "privileges"
    capabilities = own.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "writable root"
    if {"seLinuxOptions", "windowsOptions", "procMount"} & set(both) or "sysctls" in of_pod:
        yield "kernel options"
    if any("hostPort" in port for port in container.get("ports", ())):
        yield "host port"
    if "memory" not in container.get("resources", {}).get("limits", {"memory": None} if own is None else {}):
        yield "no memory limit"


def build_worker_pod(spec: dict[str, Any], **credentials: Any) -> Manifest:
    raw = {
        "apiVersion": "taskfleet.dev/v1alpha1",
        "kind": "TaskQueue",
        "metadata": {"name": "q", "namespace": "team", "uid": "u1"},
        "spec": {"worker": {"image": "app:1", "app": "app:celery", **spec}},
    }
    queue = TaskQueue.model_validate(raw)
    access = Credentials("amqps://w:secret@b//", "rediss://w:secret@s/0", **credentials)
    deployment = build_deployment(queue, injection="injected", credentials=access)
    assert build_service_account(queue)["automountServiceAccountToken"] is False
    return copy.deepcopy(deployment["spec"]["template"])


def collect(rendered: Rendered) -> set[tuple[str, str]]:
    """(component, finding) of all pods."""
    return {
        (pod["metadata"]["labels"].get("app.kubernetes.io/component", "test"), finding)
        for _, pod in build_pods(rendered)
        for finding in find_findings(pod)
    }


@pytest.mark.parametrize("values", list(RENDERINGS))
def test_no_pod_of_the_chart_has_a_finding_without_an_explanation(values: str) -> None:
    assert collect(render_chart(RENDERINGS[values])) <= set(EXPLAINED)


def test_nor_has_one_of_the_plain_manifests() -> None:
    files = [ROOT / "k8s/taskfleet.yaml", ROOT / "k8s/secrets/job.yaml"]
    manifests = [item for file in files for item in yaml.safe_load_all(file.read_text(encoding="utf-8")) if item]
    assert collect(Rendered(manifests)) <= set(EXPLAINED)


@pytest.mark.parametrize("authorities", [None, "-----BEGIN CERTIFICATE-----"])
def test_nor_has_a_worker_that_the_operator_makes(authorities: str | None) -> None:
    pod = build_worker_pod({"resources": {"limits": {"memory": "1Gi"}}}, authorities=authorities)
    assert {("worker", finding) for finding in find_findings(pod)} <= set(EXPLAINED)
    closed: dict[str, Any] = {"containers": [{"name": "worker", "securityContext": {"readOnlyRootFilesystem": True}}]}
    closed["volumes"] = [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]
    pod = build_worker_pod({"template": {"spec": closed}, "resources": {"limits": {"memory": "1Gi"}}})
    assert not set(find_findings(pod))


def test_the_authority_is_all_that_a_worker_gets_as_a_file() -> None:
    """The URLs beside it in the Secret are for the environment."""
    pod = build_worker_pod({}, authorities="-----BEGIN CERTIFICATE-----")
    (volume,) = [volume for volume in pod["spec"]["volumes"] if "secret" in volume]
    assert [item["key"] for item in volume["secret"]["items"]] == ["ca.crt"]
    names = {entry["name"] for entry in pod["spec"]["containers"][0]["env"]}
    assert {"TASKFLEET_REDIS_CA_FILE", "TASKFLEET_BROKER_CA_FILE"} <= names
    pod = build_worker_pod({}, authorities="-----BEGIN CERTIFICATE-----", is_default_broker=False)
    assert "TASKFLEET_BROKER_CA_FILE" not in {entry["name"] for entry in pod["spec"]["containers"][0]["env"]}


def test_the_rules_find_what_they_look_for() -> None:
    pod = {"spec": {"hostNetwork": True, "volumes": [{"name": "v", "hostPath": {}}], "containers": [{"name": "c"}]}}
    assert set(find_findings(pod)) == {
        "hostNetwork",
        "volume hostPath",
        "token",
        "root",
        "no seccomp",
        "privileges",
        "capabilities",
        "writable root",
        "no memory limit",
    }


@pytest.mark.skipif(not KUBE_SCORE, reason="kube-score is not installed")
@pytest.mark.parametrize("values", list(RENDERINGS))
def test_what_kube_score_finds_is_explained(values: str, tmp_path: Path) -> None:
    path = tmp_path / "rendered.yaml"
    path.write_text(yaml.safe_dump_all(render_chart(RENDERINGS[values]).manifests))
    command = [str(KUBE_SCORE), "score", "--output-format", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    checks = [(item["object_name"], check) for item in json.loads(done.stdout) for check in item["checks"]]
    assert checks
    bad = {(check["check"]["id"], name) for name, check in checks if not check["skipped"] and check["grade"] <= WARNING}
    assert not [found for found in bad if found[0] not in SCORES]


@pytest.mark.parametrize("values", list(RENDERINGS))
def test_no_role_has_a_wildcard_or_makes_rights(values: str) -> None:
    rendered = render_chart(RENDERINGS[values])
    for kind in ("Role", "ClusterRole"):
        for role in rendered.find(kind):
            component = role["metadata"]["labels"]["app.kubernetes.io/component"]
            for rule in role["rules"]:
                words = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
                assert "*" not in words, role["metadata"]["name"]
                assert not {"bind", "escalate", "impersonate"} & set(rule["verbs"])
                assert not {"pods/exec", "pods/attach", "nodes", "serviceaccounts/token"} & set(rule["resources"])
                assert "rbac.authorization.k8s.io" not in rule["apiGroups"]
                assert "secrets" not in rule["resources"] or component in SECRET_RULES


@pytest.mark.parametrize("values", list(RENDERINGS))
def test_credentials_are_in_secrets_alone(values: str) -> None:
    """`kubectl describe` shows all of a pod and a ConfigMap: what it may not show is referred to."""
    rendered = render_chart(RENDERINGS[values])
    secrets = [
        value
        for secret in rendered.find("Secret")
        for key, value in secret["stringData"].items()
        if key.endswith(("assword", "Cookie", "Key"))
    ]
    others = yaml.safe_dump_all([item for item in rendered.manifests if item["kind"] != "Secret"])
    assert values == "all options" or len(secrets) > 9
    assert not [value for value in secrets if value in others]


def test_a_worker_pod_shows_no_credentials() -> None:
    text = yaml.safe_dump(build_worker_pod({}, authorities="-----BEGIN CERTIFICATE-----"))
    assert "secret@" not in text
    assert "BEGIN CERTIFICATE" not in text
