"""The chart as tests see it: rendered by the real helm, object by object."""

import copy
import functools
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.controlplane import find_binaries

__all__ = [
    "ALL_OPTIONS",
    "CHART",
    "KUBE_VERSION",
    "ROOT",
    "ChartError",
    "Rendered",
    "build_pods",
    "find_pod_template",
    "find_references",
    "load_all_options",
    "load_values",
    "render_chart",
    "run_helm",
]

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "taskfleet"
ALL_OPTIONS = ROOT / "tests/chart/all_options.yaml"
KUBE_VERSION = "1.34.0"
NAMESPACE = "shop"
Manifest = dict[str, Any]


class ChartError(AssertionError):
    """helm refused; the text is what it says."""


class Rendered:
    """The objects of one rendering."""

    def __init__(self, manifests: list[Manifest]) -> None:
        self.manifests = manifests

    @property
    def names(self) -> set[tuple[str, str]]:
        """(kind, name) of every object."""
        return {(manifest["kind"], manifest["metadata"]["name"]) for manifest in self.manifests}

    def get(self, kind: str, name: str) -> Manifest:
        """One object."""
        (found,) = [item for item in self.manifests if (item["kind"], item["metadata"]["name"]) == (kind, name)]
        return found

    def find(self, kind: str) -> list[Manifest]:
        """All objects of a kind."""
        return [manifest for manifest in self.manifests if manifest["kind"] == kind]


def run_helm(*arguments: str, stdin: str | None = None, kubeconfig: Path | None = None) -> str:
    """The output of one helm command; raises ChartError."""
    command = [str(find_binaries() / "helm"), *arguments]
    if kubeconfig is not None:
        command += ["--kubeconfig", str(kubeconfig)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise ChartError(done.stderr + done.stdout)
    return done.stdout


def render_chart(values: Mapping[str, Any] | None = None, release: str = "taskfleet", *options: str) -> Rendered:
    """All objects of the chart for these values. Renderings are remembered: each takes helm half a second."""
    return Rendered(copy.deepcopy(_render(json.dumps(values or {}), release, options)))


@functools.cache
def _render(values: str, release: str, options: tuple[str, ...]) -> list[Manifest]:
    command = ["template", release, str(CHART), "--namespace", NAMESPACE, "--kube-version", KUBE_VERSION]
    text = run_helm(*command, "--values", "-", *options, stdin=values)
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def load_values() -> dict[str, Any]:
    """values.yaml."""
    values: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return values


def find_pod_template(manifest: Manifest) -> Manifest | None:
    """The pod (template) of a workload, or None."""
    if manifest["kind"] == "Pod":
        return manifest
    template: Manifest | None = manifest.get("spec", {}).get("template")
    return template


def build_pods(rendered: Rendered) -> Iterator[tuple[str, Manifest]]:
    """(workload, pod) for each workload, as its controller would create it."""
    for manifest in rendered.manifests:
        template = find_pod_template(manifest)
        if template is None:
            continue
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        claims = [claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])]
        spec = copy.deepcopy(template["spec"])
        spec["volumes"] = [
            *spec.get("volumes", []),
            *({"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in claims),
        ]
        labels = template["metadata"].get("labels", {})
        yield name, {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": labels}, "spec": spec}


def find_references(rendered: Rendered) -> Iterator[tuple[str, str, bool]]:
    """(secret, key, optional) of every variable of every pod."""
    for _, pod in build_pods(rendered):
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    yield reference["name"], reference["key"], reference.get("optional", False)


def load_all_options() -> dict[str, Any]:
    """Values that set every option of the chart."""
    options: dict[str, Any] = yaml.safe_load(ALL_OPTIONS.read_text(encoding="utf-8"))
    return options
