"""Every block marked `run` in README, docs and examples is run against local mode; every other one says `show`.

Those marked `cluster` are run by tests/cluster/test_quickstart.py.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.support.processes import free_port, start_process
from tests.support.runbooks import find_commands

from taskfleet.exit_codes import ExitCode
from taskfleet.main import execute

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
FENCE = re.compile(r"^```(bash|sh|shell|python)[ \t]*(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8000"
BLOCK_SECONDS = 90
CALLBACK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def find_blocks(page: Path) -> Iterator[Block]:
    """The bash and python blocks of a page."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        language, mark, body = match.groups()
        yield Block(page, text.count("\n", 0, match.start()) + 1, language, mark, body)


BLOCKS = [block for page in PAGES for block in find_blocks(page)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Local mode as `make up` starts it, on a free port."""
    folder = tmp_path_factory.mktemp("docs")
    port = free_port()
    queues = [word for path in sorted(ROOT.glob("examples/*/taskqueue.yaml")) for word in ("-f", str(path))]
    process = start_process(
        [
            str(Path(sys.executable).parent / "taskfleet"),
            "up",
            "--references",
            "--no-tui",
            "--port",
            str(port),
            *queues,
        ],
        # As docs/webhooks.md says.
        env={"TASKFLEET_API_CALLBACK_SECRETS": CALLBACK_SECRET, "TASKFLEET_API_CALLBACK_ALLOW": "127.0.0.1"},
        cwd=folder,
        log=folder / "up.log",
        ready=lambda: _is_ready(port),
        timeout_seconds=60,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate(60)


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_block_says_whether_it_is_run(block: Block) -> None:
    assert block.mark in ("run", "show", "cluster"), (
        f"{block}: write ```{block.language} run, or show when it cannot be"
    )


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.mark == "run"], ids=str)
def test_the_block_runs(block: Block, address: str, tmp_path: Path) -> None:
    text = block.text.replace(ADDRESS, address)
    command = [sys.executable, "-c", text] if block.language == "python" else ["bash", "-euo", "pipefail", "-c", text]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TASKFLEET_URL": address}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=BLOCK_SECONDS, check=False
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip(), f"{block} printed nothing"


def test_the_commands_of_the_runbooks_run(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TASKFLEET_URL", address)
    assert execute(["submit", "hello", "hello.add", "2", "3"]) == ExitCode.OK
    commands = find_commands("taskfleet", QUEUE="hello", ID=capsys.readouterr().out.strip())
    assert len(commands) >= 5
    for words in commands:
        assert execute(words) == ExitCode.OK, f"{words}: {capsys.readouterr().err}"


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
