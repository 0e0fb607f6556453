"""What is published: wheels made from sdists, and the chart's package, where nothing else of ours is."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.support.controlplane import find_binaries
from tests.support.processes import free_port, start_process

ROOT = Path(__file__).parents[3]
UV = str(Path(sys.executable).parent / "uv")
VERSION = (ROOT / "VERSION").read_text().strip()
NAMES = ("taskfleet", "taskfleet_api", "taskfleet_core", "taskfleet_operator", "taskfleet_worker")
QUEUE = """\
apiVersion: taskfleet.dev/v1alpha1
kind: TaskQueue
metadata: {name: shop}
spec: {worker: {app: "shop:app", concurrency: 1}, scaling: {maxReplicas: 1}}
"""
APP = """\
from celery import Celery
app = Celery("shop")
@app.task(name="shop.add")
def add(x, y):
    return x + y
"""
pytestmark = pytest.mark.timeout(400)


def run(*command: str, folder: Path | None = None) -> str:
    """A command without anything of this checkout in its environment; its output."""
    foreign = ("TASKFLEET", "CELERY", "PYTHON", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment["UV_SYSTEM_CERTS"] = "1"  # as hack/bootstrap
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` builds."""
    folder = tmp_path_factory.mktemp("dist")
    run(str(ROOT / "hack" / "dist"), str(folder))
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the pinned requirements and our wheels."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    run(UV, "venv", "-q", "--python", sys.executable, str(folder))
    install = [UV, "pip", "install", "-q", "--python", str(folder / "bin" / "python")]
    run(*install, "--require-hashes", "-r", str(ROOT / "requirements" / "runtime.txt"))
    run(*install, "--no-deps", *map(str, dist.glob("*.whl")))
    return folder / "bin"


def test_one_version_stands_everywhere() -> None:
    run(sys.executable, str(ROOT / "hack" / "set_version.py"), "--check")


def test_every_distribution_has_a_wheel_and_an_sdist(dist: Path) -> None:
    assert {path.name for path in dist.glob("*.whl")} == {f"{name}-{VERSION}-py3-none-any.whl" for name in NAMES}
    assert {path.name for path in dist.glob("*.tar.gz")} == {f"{name}-{VERSION}.tar.gz" for name in NAMES}


@pytest.mark.kubernetes
def test_the_chart_is_packaged_with_all_that_it_renders(tmp_path: Path) -> None:
    run(str(find_binaries() / "helm"), "package", str(ROOT / "charts" / "taskfleet"), "-d", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        names = set(archive.getnames())
        chart = archive.extractfile("taskfleet/Chart.yaml")
        assert chart is not None
        assert yaml.safe_load(chart)["version"] == VERSION
    wanted = {
        f"taskfleet/{path.relative_to(ROOT / 'charts' / 'taskfleet')}"
        for folder in ("templates", "dashboards", "rules")
        for path in (ROOT / "charts" / "taskfleet" / folder).rglob("*")
        if path.is_file()
    }
    assert wanted <= names


def test_requirements_of_the_wheels_are_met_by_what_is_pinned(installed: Path) -> None:
    run(UV, "pip", "check", "--python", str(installed / "python"))


@pytest.fixture
def url(installed: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a `taskfleet up` that was installed from the wheels."""
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "queue.yaml").write_text(QUEUE)
    log, port = tmp_path / "up.log", free_port()
    command = [str(installed / "taskfleet"), "up", "-f", "queue.yaml", "--port", str(port), "--no-tui"]
    process = start_process(
        command, cwd=tmp_path, log=log, ready=lambda: " ready " in log.read_text(), timeout_seconds=120
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate(60)


def test_what_was_installed_runs_a_task(installed: Path, url: str, tmp_path: Path) -> None:
    """API, store, database, a worker with the injected loader, client: all from wheels."""
    submit = [str(installed / "taskfleet"), "submit", "shop", "shop.add", "2", "3", "--wait", "-o", "json"]
    task = json.loads(run(*submit, "--url", url, "--timeout", "120", folder=tmp_path))
    assert (task["state"], task["result"]) == ("succeeded", 5)


def test_programs_say_who_they_are(installed: Path, tmp_path: Path) -> None:
    assert "Usage: kubectl taskfleet" in run(str(installed / "kubectl-taskfleet"), "--help", folder=tmp_path)
    script = "import taskfleet_operator, taskfleet_api; from importlib.metadata import version as v; " + (
        "print(*{v(name) for name in ('taskfleet', 'taskfleet-api', 'taskfleet-core', 'taskfleet-operator')})"
    )
    assert run(str(installed / "python"), "-c", script, folder=tmp_path).split() == [VERSION]
