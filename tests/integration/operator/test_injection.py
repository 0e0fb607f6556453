"""What is injected into worker images: small enough, the same each time, and in nobody's way."""

import io
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from taskfleet_operator.children.injection import MAX_BYTES, Injection, read_injected_files

SCRIPT = """
import json, sys
import taskfleet_worker.loader, taskfleet_worker.backend, redis
print(json.dumps({"redis": redis.__file__, "worker": taskfleet_worker.__file__, "last": sys.path[-1]}))
"""

PROMPT_SCRIPT = """
import json, sys
import celery.bin.celery
at_start = "prompt_toolkit" in sys.modules
commands = "shell" in celery.bin.celery.celery.commands["amqp"].commands or "repl" in celery.bin.amqp.amqp.commands
import click_repl
click_repl.ExitReplException
import click_repl.exceptions
whole = click_repl.exceptions.__name__ == "click_repl.exceptions"
after_use = "prompt_toolkit" in sys.modules
print(json.dumps({"at_start": at_start, "commands": commands, "after_use": after_use, "whole": whole}))
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a ConfigMap is mounted."""
    folder = tmp_path_factory.mktemp("injection")
    for name, data in Injection.from_files(read_injected_files()).archives.items():
        (folder / name).write_bytes(data)
    return folder / "worker.zip"


def build_image(folder: Path, *, without: tuple[str, ...]) -> Path:
    """The packages of this environment without some: what an image has."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith((*without, "taskfleet", "_taskfleet", "__editable__")):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that lacks nothing. Flower, a plugin of Celery's command line, imports much by itself."""
    return build_image(tmp_path_factory.mktemp("site") / "image", without=("flower",))


def run_in_image(archive: Path, image: Path, script: str = SCRIPT) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": os.pathsep.join((str(archive), str(image))), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-S", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_an_image_without_redis_gets_it_from_the_archive(archive: Path, tmp_path: Path) -> None:
    done = run_in_image(archive, build_image(tmp_path / "image", without=("redis",)))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    vendored = str(archive.parent / "vendor.zip")
    assert told["redis"].startswith(vendored)
    assert told["worker"].startswith(str(archive))
    assert told["last"] == vendored  # after everything that the image has


def test_the_image_s_own_redis_is_used(archive: Path, image: Path) -> None:
    done = run_in_image(archive, image)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["redis"].startswith(str(image))


def test_the_prompt_that_no_worker_opens_is_imported_when_somebody_does(archive: Path, image: Path) -> None:
    done = run_in_image(archive, image, PROMPT_SCRIPT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"at_start": False, "commands": True, "after_use": True, "whole": True}


def test_workers_with_the_operator_s_python_compile_nothing(archive: Path, image: Path) -> None:
    script = "import taskfleet_worker.loader as module; print(module.__cached__ or module.__file__)"
    done = run_in_image(archive, image, script)
    assert done.stdout.strip().endswith("taskfleet_worker/loader.pyc"), done.stdout + done.stderr


def test_bytecode_of_another_python_is_passed_over(archive: Path, image: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as given, zipfile.ZipFile(tmp_path / "worker.zip", "w") as other:
        for name in given.namelist():
            data = given.read(name)
            other.writestr(name, b"\0\0\0\0" + data[4:] if name.endswith(".pyc") else data)
    script = "import taskfleet_worker.loader as module; print(module.__file__)"
    done = run_in_image(tmp_path / "worker.zip", image, script)
    assert done.stdout.strip().endswith("taskfleet_worker/loader.py"), done.stdout + done.stderr


def test_a_config_map_holds_it_and_only_what_it_must_comes_before_what_the_image_has() -> None:
    archives = Injection.from_files(read_injected_files()).archives
    assert sum(map(len, archives.values())) < MAX_BYTES
    with zipfile.ZipFile(io.BytesIO(archives["worker.zip"])) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {
            "taskfleet_worker",
            "click_repl.py",
            "click_repl.pyc",
        }


def test_its_name_tells_the_content() -> None:
    """An upgrade rolls the workers, a restart of the operator does not."""
    files = {"worker.zip": {"taskfleet_worker/__init__.py": b"x = 1\n"}}
    first, second = Injection.from_files(files), Injection.from_files(dict(files))
    assert (first.name, first.archives) == (second.name, second.archives)
    assert Injection.from_files({"worker.zip": {"taskfleet_worker/__init__.py": b"x = 2\n"}}).name != first.name


def test_more_than_a_config_map_holds_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match="ConfigMap"):
        Injection.from_files({"worker.zip": {"big.py": os.urandom(MAX_BYTES + 1)}})
