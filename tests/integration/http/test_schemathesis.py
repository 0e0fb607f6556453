"""The running server does what its OpenAPI document says, whatever is sent: all checks of schemathesis."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.stack import Stack

HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
CONFIG = Path(__file__).with_name("schemathesis.toml")
LIMIT_SECONDS = 280


@pytest.mark.timeout(300)
def test_the_server_keeps_its_document(served: Stack) -> None:
    """The seed is fixed and the examples are bounded; a failure prints how to repeat it."""
    st = Path(sys.executable).with_name("st")
    command = [str(st), "--config-file", str(CONFIG), "run", f"{served.base_url}/openapi.json", "--checks", "all"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": HOOKS.stem, "PYTHONPATH": str(HOOKS.parent)}
    run = subprocess.run(
        [*command, "--no-color"],
        env=environment,
        cwd=served.directory,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout[:12_000] + run.stderr[-2_000:]
    log = (served.directory / "api-0.log").read_text(errors="replace")
    assert "request_failed" not in log
    assert "submission_failed" not in log
