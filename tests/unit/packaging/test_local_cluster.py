"""hack/local-cluster: which cluster it takes, and what it asks kind, k3d and Docker to do (stand-ins note it)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "hack" / "local-cluster"
SYSTEM = ("bash", "cat", "dirname", "env", "grep", "mkdir", "sed", "sh")  # not more: the machine may have a Docker


class Machine:
    """A PATH with the given tools, each of which notes how it was called."""

    def __init__(self, folder: Path, *tools: str) -> None:
        self.folder, self.log = folder, folder / "calls.log"
        for tool in SYSTEM:
            (folder / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        for tool in tools:
            path = folder / tool
            path.write_text(f'#!/bin/sh\necho "{tool} $*" >>"{self.log}"\n')
            path.chmod(0o755)

    def run(self, *arguments: str, **environment: str) -> str:
        """The script's output."""
        kept = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        values = {**kept, "PATH": str(self.folder), "HOME": str(self.folder), **environment}
        values.pop("XDG_CACHE_HOME", None)
        done = subprocess.run(
            [str(SCRIPT), *arguments], env=values, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout.strip()

    def calls(self) -> list[str]:
        """What the tools were asked for."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        pytest.param((), "one-node", id="no container engine"),
        pytest.param(("docker",), "one-node", id="an engine without kind or k3d"),
        pytest.param(("kind", "k3d"), "one-node", id="kind without an engine"),
        pytest.param(("docker", "k3d"), "k3d", id="k3d"),
        pytest.param(("docker", "kind", "k3d"), "kind", id="kind before k3d"),
    ],
)
def test_the_cluster_is_what_the_machine_can_run(tmp_path: Path, tools: tuple[str, ...], expected: str) -> None:
    assert Machine(tmp_path, *tools).run("provider") == expected


def test_the_environment_decides_otherwise(tmp_path: Path) -> None:
    assert Machine(tmp_path, "docker", "kind").run("provider", TASKFLEET_CLUSTER="one-node") == "one-node"


def test_kind_gets_the_cluster_the_images_and_the_end(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "docker", "kind", "kubectl", "helm")
    machine.run("up")
    machine.run("build", "a:dev", ".", "-f", "api/Dockerfile")
    machine.run("load", "a:dev", "b:dev")
    machine.run("down")
    calls = [call for call in machine.calls() if call != "docker info"]
    assert calls == [
        "kind get clusters",
        "kind create cluster --name taskfleet --wait 120s",
        "docker build -q -t a:dev -f api/Dockerfile .",
        "kind load docker-image --name taskfleet a:dev b:dev",
        "kind delete cluster --name taskfleet",
    ]
    assert machine.run("env") == f"export KUBECONFIG={tmp_path}/.cache/taskfleet/kind.kubeconfig"


def test_k3d_gets_the_images(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "docker", "k3d", "kubectl", "helm")
    machine.run("load", "a:dev")
    assert machine.calls()[-1] == "k3d image import -c taskfleet a:dev"


def test_a_cluster_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "kubectl", "helm")
    machine.run("down", TASKFLEET_CLUSTER="given")
    assert machine.calls() == []
    assert machine.run("env", TASKFLEET_CLUSTER="given", KUBECONFIG="/some/file") == "export KUBECONFIG=/some/file"
