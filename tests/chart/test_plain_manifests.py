"""k8s/ is the chart without Helm, and can be applied as it is: the secrets that it lacks are made in the cluster."""

import importlib.util
import re
import subprocess
import sys
from types import ModuleType

import pytest
import yaml
from tests.support.chart import ROOT, Rendered, find_pod_template, find_references, run_helm

K8S = ROOT / "k8s"


def load_plain() -> Rendered:
    return Rendered(list(yaml.safe_load_all((K8S / "taskfleet.yaml").read_text(encoding="utf-8"))))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("create_secrets", K8S / "secrets" / "create_secrets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_they_are_what_the_chart_renders() -> None:
    assert run_helm("version")
    command = [sys.executable, str(ROOT / "hack" / "render_k8s.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_job_makes_every_secret_that_a_pod_refers_to(script: ModuleType) -> None:
    made = script.build_secrets("taskfleet", "taskfleet")
    references = set(find_references(load_plain()))
    assert {name for name, _, _ in references} == set(made)
    for name, key, _ in references:
        assert key in made[name], (name, key)


def test_the_job_and_the_chart_make_the_same_secrets(script: ModuleType) -> None:
    def blank(secrets: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        """The same with each password replaced by its name."""
        blanked = {}
        for name, values in secrets.items():
            password = values.get("password", "")
            blanked[name] = {
                key: "random" if key in {"password", "erlangCookie", "apiKey"} else value.replace(password or "\0", "*")
                for key, value in values.items()
            }
        return blanked

    text = run_helm(
        "template", "taskfleet", str(ROOT / "charts/taskfleet"), "-n", "taskfleet", "--kube-version", "1.34.0"
    )
    rendered = Rendered([item for item in yaml.safe_load_all(text) if item])
    # The chart also makes a user for each role.
    of_roles = re.compile(r"(api|operator|worker)(Url|Password)|adminManagementUrl|definitions\.json|users\.acl")
    by_chart = {
        secret["metadata"]["name"]: {
            key: value for key, value in secret["stringData"].items() if not of_roles.fullmatch(key)
        }
        for secret in rendered.find("Secret")
    }
    assert blank(script.build_secrets("taskfleet", "taskfleet")) == blank(by_chart)


def test_nothing_secret_is_committed() -> None:
    assert not load_plain().find("Secret")


def test_the_job_runs_the_image_of_the_api() -> None:
    (job,) = [
        item
        for item in yaml.safe_load_all((K8S / "secrets" / "job.yaml").read_text(encoding="utf-8"))
        if item["kind"] == "Job"
    ]
    template = find_pod_template(load_plain().get("Deployment", "taskfleet-api"))
    assert template is not None
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == template["spec"]["containers"][0]["image"]
