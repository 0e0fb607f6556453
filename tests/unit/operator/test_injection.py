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


def run_in_image(archive: Path, image: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": os.pathsep.join((str(archive), str(image))), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-S", "-c", SCRIPT]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_an_image_without_redis_gets_it_from_the_archive(archive: Path, tmp_path: Path) -> None:
    done = run_in_image(archive, build_image(tmp_path / "image", without=("redis",)))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    vendored = str(archive.parent / "vendor.zip")
    assert told["redis"].startswith(vendored)
    assert told["worker"].startswith(str(archive))
    assert told["last"] == vendored  # after everything that the image has


def test_the_image_s_own_redis_is_used(archive: Path, tmp_path: Path) -> None:
    image = build_image(tmp_path / "image", without=())
    done = run_in_image(archive, image)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["redis"].startswith(str(image))


def test_a_config_map_holds_it_and_only_the_package_comes_before_what_the_image_has() -> None:
    archives = Injection.from_files(read_injected_files()).archives
    assert sum(map(len, archives.values())) < MAX_BYTES
    with zipfile.ZipFile(io.BytesIO(archives["worker.zip"])) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"taskfleet_worker"}


def test_its_name_tells_the_content() -> None:
    """An upgrade rolls the workers, a restart of the operator does not."""
    files = {"worker.zip": {"taskfleet_worker/__init__.py": b"x = 1\n"}}
    first, second = Injection.from_files(files), Injection.from_files(dict(files))
    assert (first.name, first.archives) == (second.name, second.archives)
    assert Injection.from_files({"worker.zip": {"taskfleet_worker/__init__.py": b"x = 2\n"}}).name != first.name


def test_more_than_a_config_map_holds_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match="ConfigMap"):
        Injection.from_files({"worker.zip": {"big.py": os.urandom(MAX_BYTES + 1)}})
