"""The built console goes into the API's wheel, and nothing of what builds it names a host."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "api" / "src" / "taskfleet_api" / "console" / "static"


def test_the_wheel_holds_what_was_built(tmp_path: Path) -> None:
    if not (STATIC / "index.html").is_file():
        pytest.skip("the console is not built: hack/console needs Node.js and npm")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "api", check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    built = {path.relative_to(STATIC.parents[1].parent).as_posix() for path in STATIC.rglob("*") if path.is_file()}
    assert {name for name in built if not name.endswith("/.built")} <= names


def test_the_lock_file_names_no_address() -> None:
    text = (ROOT / "console" / "package-lock.json").read_text()
    assert "resolved" not in text
    assert re.search(r"https?://(?!opencollective|github|tidelift|www\.patreon|paulmillr|feross)", text) is None
