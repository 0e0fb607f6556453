"""The running server does what its OpenAPI document says, whatever is sent: all checks of schemathesis."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.http.conftest import LIMIT, SECONDS, add_queues
from tests.support.site import REFERENCES
from tests.support.stack import Stack, StackOptions, running_stack

HERE = Path(__file__).parent
CONFIG = HERE / "schemathesis.toml"
LIMIT_SECONDS = 500

pytestmark = pytest.mark.timeout(LIMIT_SECONDS + 20, func_only=True)


@pytest.fixture(scope="module")
def documented() -> Iterator[Stack]:
    """RabbitMQ 4.3 and PostgreSQL, the references switched on, a queue for each of them, no worker."""
    with running_stack(StackOptions(environment=SECONDS | REFERENCES, variables=LIMIT)) as stack:
        add_queues(stack)
        yield stack


def check(stack: Stack, examples: int, *, steered: bool) -> None:
    """Run schemathesis. The seed is fixed and the examples are bounded; a failure prints how to repeat it."""
    st = Path(sys.executable).with_name("st")
    command = [str(st), "--config-file", str(CONFIG), "run", f"{stack.base_url}/openapi.json", "--checks", "all"]
    # DELETE cancels a task: its record stays, and reading it answers 200. What is named here overrides the file.
    command += ["--exclude-checks", "use_after_free"]
    # A stream that does not end by itself; its filters are those of the listing.
    command += ["--exclude-operation-id", "streamTasks"]
    hooks = "schemathesis_hooks" if steered else "schemathesis_formats"
    run = subprocess.run(
        [*command, "--max-examples", str(examples), "--no-color"],
        env=os.environ | {"SCHEMATHESIS_HOOKS": hooks, "PYTHONPATH": str(HERE)},
        cwd=stack.directory,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout[:12_000] + run.stderr[-2_000:]
    log = (stack.directory / "api-0.log").read_text(errors="replace")
    assert "request_failed" not in log
    assert "submission_failed" not in log


def test_the_server_keeps_its_document(documented: Stack) -> None:
    """The queues that are asked for exist, so that what is sent reaches the records and the broker."""
    check(documented, 40, steered=True)


def test_it_keeps_it_without_any_steering(documented: Stack) -> None:
    check(documented, 12, steered=False)


def test_it_keeps_it_on_the_smallest_stack(served: Stack) -> None:
    check(served, 6, steered=True)
