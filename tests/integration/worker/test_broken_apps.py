"""What a worker's end is explained with, where Celery's own words do not lead to the cause. Nothing is connected to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskfleet_core.worker_ends import explain_worker_end

APPS = {
    "factory": "from celery import Celery\n\ndef create_app():\n    return Celery('made')\n",
    "empty": "nothing = 1\n",
    "broken": "import not_there\n",
    "pickled": "from celery import Celery\n\napp = Celery('pickled')\napp.conf.accept_content = ['pickle']\n",
}


def end_of_worker(folder: Path, app: str) -> str:
    """What the worker of a broken app leaves in its log."""
    for name, text in APPS.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "celery", "-A", app, "-b", "memory://", "worker", "-P", "solo"]
    environment = {name: value for name, value in os.environ.items() if name != "C_FORCE_ROOT"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode != 0
    return explain_worker_end(done.stdout)


@pytest.mark.parametrize(
    ("app", "told"),
    [
        ("factory:create_app", "spec.worker.app names a function, not a Celery application"),
        ("empty", "no Celery application at spec.worker.app: Module 'empty' has no attribute 'celery'; write"),
        ("empty:app", "no Celery application at spec.worker.app: The module empty:app was not found; write"),
        ("broken", "ModuleNotFoundError: No module named 'not_there'"),
    ],
)
def test_the_end_of_a_worker_names_its_cause(tmp_path: Path, app: str, told: str) -> None:
    assert end_of_worker(tmp_path, app).startswith(told)


@pytest.mark.skipif(os.geteuid() != 0, reason="Celery refuses pickle to root only")
def test_pickle_as_root_is_explained(tmp_path: Path) -> None:
    assert "spec.worker.acceptContent" in end_of_worker(tmp_path, "pickled")
