#!/usr/bin/env python3
"""Renders the chart into k8s/taskfleet.yaml, for those who install without Helm; `--check` compares and exits 1.

Comparing needs a helm that is there already; without one it says that nothing was compared (tests do it too).
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from generated import keep_files

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "k8s" / "taskfleet.yaml"
HEADER = "# Rendered from charts/taskfleet with k8s/values.yaml by `make generate`. Do not edit.\n"
RELEASE = NAMESPACE = "taskfleet"
NO_HELM = 3
KUBERNETES_VERSION = "1.34.0"


def find_helm(*, build: bool) -> str | None:
    """The path of helm, or None."""
    options = [] if build else ["--no-build"]
    found = subprocess.run([ROOT / "hack" / "find-helm", *options], capture_output=True, text=True, check=False)
    if found.returncode == NO_HELM:
        return None
    if found.returncode:
        raise SystemExit(found.stderr)
    return found.stdout.strip().splitlines()[-1]


def render(helm: str) -> str:
    """The manifests, without what only Helm needs."""
    command = [helm, "template", RELEASE, "charts/taskfleet", "--namespace", NAMESPACE, "--skip-tests"]
    command += ["--kube-version", KUBERNETES_VERSION, "--values", "k8s/values.yaml"]
    rendered = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if rendered.returncode:
        raise SystemExit(rendered.stderr)
    manifests = [manifest for manifest in yaml.safe_load_all(rendered.stdout) if manifest]
    for manifest in manifests:
        _take_from_helm(manifest)
    return HEADER + yaml.safe_dump_all(manifests, sort_keys=False, width=120)


def _take_from_helm(manifest: dict[str, Any]) -> None:
    labels = manifest["metadata"]["labels"]
    labels.pop("helm.sh/chart", None)
    labels["app.kubernetes.io/managed-by"] = "kubectl"


def main() -> int:
    """Write the file, or compare it."""
    check = "--check" in sys.argv[1:]
    helm = find_helm(build=not check)
    if helm is None:
        sys.stderr.write("k8s/taskfleet.yaml is not checked: there is no helm\n")
        return 0 if check else 1
    return keep_files({TARGET: render(helm)})


if __name__ == "__main__":
    sys.exit(main())
