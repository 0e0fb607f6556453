"""docs/kubernetes.md as a reader follows it: its blocks marked `cluster` in their order, and its table of commands."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.support.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/kubernetes.md"
BLOCK = re.compile(r"^```bash cluster\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\| .* \| `(kubectl .*)` \|$", re.MULTILINE)
SECONDS = 120


@pytest.fixture(scope="module")
def reader(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of somebody whose context is the installation's namespace."""
    path = tmp_path_factory.mktemp("reader") / "kubeconfig"
    path.write_text(cluster.kubectl("config", "view", "--raw"))
    environment = cluster.environment | {"KUBECONFIG": str(path), "TASKFLEET_NAMESPACE": cluster.namespace}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    run(f"kubectl config set-context --current --namespace={cluster.namespace}", environment, path.parent)
    yield environment
    cluster.delete("hello")


def run(script: str, environment: Mapping[str, str], folder: Path) -> str:
    """What bash prints; the examples are in the folder as they are in a clone."""
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(
        command, env=dict(environment), cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_page_leads_from_an_installation_to_a_queue_that_says_what_it_does(
    reader: Mapping[str, str], tmp_path: Path
) -> None:
    first, scaled, doctor = [run(block, reader, tmp_path) for block in BLOCK.findall(PAGE.read_text())]
    assert re.search(r"^result +5$", first, re.MULTILINE)
    assert "STATUS" in scaled
    assert "ScaledUp" in scaled
    assert "no problem" in doctor


def test_its_commands_steer_the_queue(reader: Mapping[str, str], tmp_path: Path) -> None:
    commands = COMMAND.findall(PAGE.read_text())
    assert len(commands) == 6
    run("kubectl apply -f examples/hello/taskqueue.yaml", reader, tmp_path)
    seen = [run(f"{command}; kubectl get tq hello -o jsonpath='{{.spec}}'", reader, tmp_path) for command in commands]
    assert '"replicas":3' in seen[0]
    assert '"replicas":3' not in seen[1]
    assert '"mode":"DryRun"' in seen[4]
