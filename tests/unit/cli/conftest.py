"""A kubectl that answers what a test says."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def make_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in the place of kubectl."""

    def make(script: str) -> None:
        path = tmp_path / "kubectl"
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return make
