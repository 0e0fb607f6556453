"""What the chart renders is taken by a real API server, and a release lives there through upgrades to its end."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.chart import (
    CHART,
    KUBE_VERSION,
    ROOT,
    ChartError,
    build_pods,
    load_all_options,
    render_chart,
    run_helm,
)
from tests.support.controlplane import ApiError, ControlPlane
from tests.support.waiting import eventually_sync

# Their definitions are other projects'; see the test of their fields below.
FOREIGN = {"ServiceMonitor", "PodMonitor", "PrometheusRule", "HTTPRoute"}
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "all options": load_all_options(),
    "servers elsewhere": {
        part: {"enabled": False, "existingSecret": "mine"} for part in ("rabbitmq", "valkey", "database")
    },
    "exposed": {"ingress": {"enabled": True}, "flower": {"enabled": True}, "dashboards": {"enabled": True}},
}
SECRETS = ("taskfleet-broker", "taskfleet-valkey", "taskfleet-database", "taskfleet-admin-key")


@pytest.mark.parametrize("options", list(OPTIONS))
def test_every_object_is_valid_to_the_last_field(options: str, control_plane: ControlPlane) -> None:
    rendered = render_chart(OPTIONS[options])
    namespace = control_plane.make_namespace("chart")
    manifests = [
        json.loads(json.dumps(manifest).replace('"namespace": "shop"', f'"namespace": "{namespace}"'))
        for manifest in rendered.manifests
        # A pod needs its ServiceAccount, which a dry run does not make.
        if manifest["kind"] not in FOREIGN | {"Pod", "CustomResourceDefinition"}
        and manifest["metadata"].get("namespace", "shop") == "shop"
    ]
    assert len(manifests) > 15
    text = yaml.safe_dump_all(manifests)
    report = control_plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert report.count("(server dry run)") == len(manifests)


def test_the_objects_of_other_projects_have_the_fields_that_they_need() -> None:
    rendered = render_chart(load_all_options())
    for kind, version in {
        "ServiceMonitor": "monitoring.coreos.com/v1",
        "PodMonitor": "monitoring.coreos.com/v1",
        "PrometheusRule": "monitoring.coreos.com/v1",
        "HTTPRoute": "gateway.networking.k8s.io/v1",
    }.items():
        assert rendered.find(kind), kind
        assert {manifest["apiVersion"] for manifest in rendered.find(kind)} == {version}
    ports = {
        (service["metadata"]["labels"]["app.kubernetes.io/component"], port["name"])
        for service in rendered.find("Service")
        for port in service["spec"]["ports"]
    }
    for monitor in rendered.find("ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["honorLabels"] is True
        component = monitor["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        assert (component, endpoint["port"]) in ports
    (route,) = rendered.find("HTTPRoute")
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    service = rendered.get("Service", backend["name"])
    assert backend["port"] == service["spec"]["ports"][0]["port"]


@pytest.mark.parametrize("options", list(OPTIONS))
def test_every_pod_is_admitted_under_the_restricted_standard(options: str, control_plane: ControlPlane) -> None:
    namespace = control_plane.make_namespace("restricted")
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    control_plane.request("PATCH", f"/api/v1/namespaces/{namespace}", labels, "application/merge-patch+json")
    control_plane.make_account(namespace, "any")
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
    for number, (_, pod) in enumerate(build_pods(render_chart(OPTIONS[options]))):
        pod["metadata"]["name"] = f"pod-{number}"
        pod["spec"]["serviceAccountName"] = "any"
        pod["spec"].pop("priorityClassName", None)  # it would have to exist
        control_plane.request("POST", path, pod)
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        with pytest.raises(ApiError, match="violates PodSecurity"):
            control_plane.request("POST", path, pod)


def helm(plane: ControlPlane, namespace: str, *arguments: str) -> str:
    """One helm command at the control plane; nothing there starts pods, so nothing is waited for."""
    return run_helm(*arguments, "--namespace", namespace, kubeconfig=plane.kubeconfig)


def read_secrets(plane: ControlPlane, namespace: str) -> dict[str, dict[str, str]]:
    items = plane.request("GET", f"/api/v1/namespaces/{namespace}/secrets")["items"]
    return {
        item["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in item["data"].items()}
        for item in items
        if item["type"] == "Opaque"
    }


def test_a_release_keeps_its_passwords_through_upgrades_and_a_second_life(control_plane: ControlPlane) -> None:
    """Installed, upgraded, uninstalled, installed again: the volumes that stay were made with the first passwords."""
    namespace = control_plane.make_namespace("release")
    helm(control_plane, namespace, "install", "taskfleet", str(CHART))
    first = read_secrets(control_plane, namespace)
    assert set(first) == set(SECRETS)
    helm(control_plane, namespace, "upgrade", "taskfleet", str(CHART), "--set", "rabbitmq.replicas=3")
    upgraded = read_secrets(control_plane, namespace)
    assert upgraded["taskfleet-broker"].pop("metricsUrl") != first["taskfleet-broker"].pop("metricsUrl")
    assert upgraded == first
    said = helm(control_plane, namespace, "uninstall", "taskfleet")
    assert all(name in said for name in SECRETS)
    left = control_plane.kubectl("get", "all,cm,pdb,netpol,role,rolebinding", "-n", namespace, "-o", "name").split()
    assert not [name for name in left if "taskfleet" in name]
    assert not control_plane.kubectl("get", "clusterrole,clusterrolebinding", "-o", "name").count(namespace)
    helm(control_plane, namespace, "install", "taskfleet", str(CHART))
    assert read_secrets(control_plane, namespace)["taskfleet-database"] == first["taskfleet-database"]
    helm(control_plane, namespace, "uninstall", "taskfleet")


def test_a_release_without_kept_data_leaves_nothing(control_plane: ControlPlane) -> None:
    namespace = control_plane.make_namespace("release")
    helm(control_plane, namespace, "install", "taskfleet", str(CHART), "--set", "keepData=false")
    helm(control_plane, namespace, "uninstall", "taskfleet")
    assert read_secrets(control_plane, namespace) == {}


def test_the_crd_of_somebody_else_is_left_alone(control_plane: ControlPlane) -> None:
    """Here kubectl applied it: an installation neither fails because of it nor takes it over."""
    namespace = control_plane.make_namespace("release")
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/taskqueues.taskfleet.dev"
    before = control_plane.request("GET", path)["metadata"]
    helm(control_plane, namespace, "install", "taskfleet", str(CHART))
    after = control_plane.request("GET", path)["metadata"]
    assert (after["resourceVersion"], after.get("annotations")) == (
        before["resourceVersion"],
        before.get("annotations"),
    )
    helm(control_plane, namespace, "uninstall", "taskfleet")


@pytest.fixture
def without_crd(control_plane: ControlPlane) -> Iterator[None]:
    """The control plane before anybody has installed the CRD; afterwards it is as before."""
    control_plane.kubectl("delete", "crd/taskqueues.taskfleet.dev", "--wait")
    yield
    control_plane.kubectl("delete", "crd/taskqueues.taskfleet.dev", "--wait")
    control_plane.kubectl("apply", "--server-side", "-f", str(ROOT / "k8s/crd"))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/taskqueues.taskfleet.dev", "--timeout=30s")


@pytest.mark.usefixtures("without_crd")
def test_an_upgrade_brings_the_crd_up_to_date_and_an_uninstall_keeps_it(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    first, second = control_plane.make_namespace("release"), control_plane.make_namespace("release")
    newer = tmp_path / "taskfleet"
    shutil.copytree(CHART, newer)
    crd = newer / "crd" / "taskqueues.taskfleet.dev.yaml"
    crd.write_text(crd.read_text(encoding="utf-8").replace("What the user wants.", "Newer."), encoding="utf-8")

    def describe() -> str:
        return control_plane.kubectl("explain", "taskqueues.spec")

    helm(control_plane, first, "install", "taskfleet", str(CHART))
    control_plane.kubectl("wait", "--for=condition=Established", "crd/taskqueues.taskfleet.dev", "--timeout=30s")
    eventually_sync(lambda: "What the user wants." in describe(), 30)
    helm(control_plane, first, "upgrade", "taskfleet", str(newer))
    eventually_sync(lambda: "Newer." in describe(), 30)
    # Another release neither fails nor takes it back.
    helm(control_plane, second, "install", "taskfleet", str(CHART))
    helm(control_plane, second, "uninstall", "taskfleet")
    helm(control_plane, first, "uninstall", "taskfleet")
    assert "Newer." in describe()
    helm(control_plane, first, "install", "taskfleet", str(newer))
    helm(control_plane, first, "uninstall", "taskfleet")


def test_what_another_kubernetes_cannot_do_is_said() -> None:
    with pytest.raises(ChartError, match=r"kubeVersion: >=1\.30"):
        run_helm("template", "taskfleet", str(CHART), "--kube-version", "1.29.0")
    assert run_helm("template", "taskfleet", str(CHART), "--kube-version", KUBE_VERSION)


def test_the_plain_manifests_are_valid_too(control_plane: ControlPlane) -> None:
    text = control_plane.kubectl("kustomize", str(ROOT / "k8s"))
    control_plane.kubectl("create", "namespace", "taskfleet")
    report = control_plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert report.count("(server dry run)") == sum(1 for item in yaml.safe_load_all(text) if item)


def test_the_samples_are_taken(control_plane: ControlPlane) -> None:
    namespace = control_plane.make_namespace("samples")
    report = control_plane.kubectl("apply", "-n", namespace, "-f", str(ROOT / "k8s" / "samples"))
    assert report.count("taskqueue.taskfleet.dev/") == len(list((ROOT / "k8s" / "samples").glob("*.yaml")))


def test_the_job_creates_each_secret_once_and_may_do_nothing_else(control_plane: ControlPlane, tmp_path: Path) -> None:
    """As its own ServiceAccount, with the rights of k8s/secrets/job.yaml."""
    namespace = control_plane.make_namespace("secrets")
    text = (
        (ROOT / "k8s/secrets/job.yaml")
        .read_text(encoding="utf-8")
        .replace("namespace: taskfleet", f"namespace: {namespace}")
    )
    rights = [item for item in yaml.safe_load_all(text) if item["kind"] in {"Role", "RoleBinding"}]
    control_plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rights))
    token = control_plane.make_account(namespace, "taskfleet-create-secrets")
    cluster = yaml.safe_load(control_plane.kubeconfig.read_text(encoding="utf-8"))["clusters"][0]["cluster"]
    authority = cluster.get("certificate-authority-data")
    (tmp_path / "ca.crt").write_bytes(
        base64.b64decode(authority) if authority else Path(cluster["certificate-authority"]).read_bytes()
    )
    (tmp_path / "token").write_text(token)
    (tmp_path / "namespace").write_text(namespace)
    script = (ROOT / "k8s/secrets/create_secrets.py").read_text(encoding="utf-8")
    mounted = script.replace("/var/run/secrets/kubernetes.io/serviceaccount", str(tmp_path))
    environment = {
        "RELEASE": "taskfleet",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(control_plane.port),
    }

    def run() -> str:
        command = [sys.executable, "-c", mounted]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run().split() == [word for name in SECRETS for word in (name, "created")]
    first = read_secrets(control_plane, namespace)
    assert run().split() == [word for name in SECRETS for word in (name, "exists")]
    assert read_secrets(control_plane, namespace) == first
    may = ["auth", "can-i", "--as", f"system:serviceaccount:{namespace}:taskfleet-create-secrets", "-n", namespace]
    assert control_plane.try_kubectl(*may, "get", "secrets").stdout.strip() == "no"
    assert control_plane.try_kubectl(*may, "create", "pods").stdout.strip() == "no"
