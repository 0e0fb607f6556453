"""KEDA in the cluster by its own manifests: CRDs, roles, operator and metrics adapter, with the image built here."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.cluster import CommandError, run
from tests.support.waiting import eventually_sync

from benchmarks.figures import say
from benchmarks.keda.building import IMAGE, VERSION, build_image, build_keda

__all__ = ["NAMESPACE", "running_keda"]

NAMESPACE = "keda"
READY_SECONDS = 300
PARTS = ("crd", "general", "rbac", "manager", "metrics-server", "service_account")  # all but the admission webhook
OPERATOR, ADAPTER = "keda-operator", "keda-metrics-apiserver"


def build_kustomization() -> dict:
    """KEDA's own `config/` with the image of this cluster and without the webhook that its operator would patch."""
    repository, tag = IMAGE.rsplit(":", 1)
    pull = {"op": "replace", "path": "/spec/template/spec/containers/0/imagePullPolicy", "value": "IfNotPresent"}
    webhook = {
        "op": "add",
        "path": "/spec/template/spec/containers/0/args/-",
        "value": "--enable-webhook-patching=false",
    }
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../config/{part}" for part in PARTS],
        "images": [
            {"name": name, "newName": repository, "newTag": tag}
            for name in ("ghcr.io/kedacore/keda", "ghcr.io/kedacore/keda-metrics-apiserver")
        ],
        "patches": [
            {"target": {"kind": "Deployment"}, "patch": json.dumps([pull])},
            {"target": {"kind": "Deployment", "name": OPERATOR}, "patch": json.dumps([webhook])},
        ],
    }


@contextlib.contextmanager
def running_keda(environment: Mapping[str, str]) -> Iterator[None]:
    """KEDA for the length of a with block; the external metrics API answers when it begins."""
    folder = build_keda()
    build_image(environment, folder)
    overlay = folder / "overlay"
    overlay.mkdir(exist_ok=True)
    (overlay / "kustomization.yaml").write_text(json.dumps(build_kustomization()))
    try:
        say(f"installing KEDA {VERSION}")
        _install(environment, overlay)
        yield
    finally:
        with contextlib.suppress(CommandError):
            run(["kubectl", "delete", "-k", str(overlay), "--ignore-not-found", "--wait=false"], environment)


def _install(environment: Mapping[str, str], overlay: Path) -> None:
    def kubectl(*arguments: str) -> str:
        return run(["kubectl", *arguments], environment, timeout_seconds=READY_SECONDS)

    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(overlay))
    kubectl("wait", "--for=condition=Established", "crd/scaledobjects.keda.sh", "--timeout=60s")

    def has_certificate() -> bool:
        found = json.loads(kubectl("-n", NAMESPACE, "get", "secret", "kedaorg-certs", "-o", "json"))
        return bool((found.get("data") or {}).get("tls.crt"))

    # The operator makes the certificate, and both mount it: begun anew, they need not wait for the kubelet's next look.
    eventually_sync(has_certificate, READY_SECONDS, 1)
    kubectl("-n", NAMESPACE, "rollout", "restart", f"deployment/{OPERATOR}", f"deployment/{ADAPTER}")
    for name in (OPERATOR, ADAPTER):
        kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", f"--timeout={READY_SECONDS}s")
    kubectl("wait", "--for=condition=Available", "apiservice/v1beta1.external.metrics.k8s.io", "--timeout=120s")
