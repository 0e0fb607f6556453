"""skaffold.yaml: what it builds exists, and what it hands to the chart is taken. Skaffold itself is not run here."""

import re
from typing import Any

import pytest
import yaml
from tests.support.chart import ROOT, find_pod_template, render_chart

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text(encoding="utf-8"))
ARTIFACTS = {artifact["image"]: artifact for artifact in CONFIG["build"]["artifacts"]}
(RELEASE,) = CONFIG["deploy"]["helm"]["releases"]
TEMPLATE = re.compile(r"^\{\{\.(IMAGE_DOMAIN|IMAGE_REPO_NO_DOMAIN|IMAGE_TAG)_(\w+)\}\}$")


def fill(template: str) -> tuple[str, str]:
    """What Skaffold puts in for a template when images go to registry.example, and its name for the artifact."""
    found = TEMPLATE.match(template)
    assert found, template
    part, artifact = found.groups()
    values = {"IMAGE_DOMAIN": "registry.example", "IMAGE_REPO_NO_DOMAIN": f"dev/{artifact}", "IMAGE_TAG": "abc"}
    return values[part], artifact


def build_values() -> dict[str, Any]:
    """The values of the release: its files and filled templates."""
    values: dict[str, Any] = {}
    for path in RELEASE["valuesFiles"]:
        values |= yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    for path, template in RELEASE["setValueTemplates"].items():
        *parents, last = path.split(".")
        place = values
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = fill(template)[0]
    return values


def test_the_version_is_the_one_that_this_was_written_for() -> None:
    assert (CONFIG["apiVersion"], CONFIG["kind"]) == ("skaffold/v4beta14", "Config")
    assert set(CONFIG) == {"apiVersion", "kind", "metadata", "build", "deploy", "portForward"}


@pytest.mark.parametrize("image", list(ARTIFACTS))
def test_every_image_has_its_dockerfile(image: str) -> None:
    artifact = ARTIFACTS[image]
    dockerfile = ROOT / artifact["context"] / artifact["docker"]["dockerfile"]
    arguments = re.findall(r"^ARG (\w+)", dockerfile.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(artifact["docker"].get("buildArgs", {})) <= set(arguments)


def test_the_release_runs_the_images_that_are_built() -> None:
    known = {re.sub(r"[/.-]", "_", image) for image in ARTIFACTS}
    assert {fill(template)[1] for template in RELEASE["setValueTemplates"].values()} <= known
    assert (ROOT / RELEASE["chartPath"] / "Chart.yaml").is_file()
    rendered = render_chart(build_values(), RELEASE["name"])
    images = {
        manifest["metadata"]["name"]: template["spec"]["containers"][0]["image"]
        for manifest in rendered.manifests
        if (template := find_pod_template(manifest))
    }
    assert images["taskfleet-api"] == "registry.example/dev/docker_io_taskfleet_api:abc"
    assert images["taskfleet-operator"] == "registry.example/dev/docker_io_taskfleet_operator:abc"
    assert images["taskfleet-valkey"] == "docker.io/valkey/valkey:8"


def test_the_forwarded_port_is_the_service_of_the_api() -> None:
    (forward,) = CONFIG["portForward"]
    service = render_chart(build_values(), RELEASE["name"]).get("Service", forward["resourceName"])
    assert forward["port"] in {port["port"] for port in service["spec"]["ports"]}
