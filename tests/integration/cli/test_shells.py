"""The command line in real shells, and as a plugin of a real kubectl."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest
from tests.integration.cli.running import Up
from tests.support.controlplane import ROOT, find_binaries
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.timeout(400)
BIN = Path(sys.executable).parent
PATH = f"{BIN}:{os.environ['PATH']}"
STARTS = {"bash": ["--norc", "-i"], "zsh": ["-f", "-i"], "fish": ["--private", "-i"]}
BEFORE = {"bash": "", "zsh": "autoload -Uz compinit; compinit -u -D; ", "fish": ""}
ANSWER_SECONDS = 120  # each TAB starts the command, on a machine with much else to do


def run(command: list[str]) -> str:
    done = subprocess.run(
        command, env=os.environ | {"PATH": PATH}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """An API with a queue and a worker that has told which tasks it knows."""
    up = Up(tmp_path_factory.mktemp("up"), name="parcels").start()
    try:
        up.run("submit", "parcels", "jobs.add", "1", "2", "--wait")
        eventually_sync(lambda: bool(up.get("/queues/parcels/tasks")["items"]), 60)
        yield up
    finally:
        up.end()


@pytest.fixture(params=list(STARTS))
def terminal(request: pytest.FixtureRequest, up: Up, tmp_path: Path) -> Iterator["pexpect.spawn[str]"]:
    """A terminal with a shell that has done what the documentation says."""
    shell = str(request.param)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    environment = {"PATH": PATH, "HOME": str(tmp_path), "TERM": "xterm", "LANG": "C.UTF-8", "TASKFLEET_URL": up.url}
    terminal = pexpect.spawn(
        shell, STARTS[shell], env=environment, encoding="utf-8", dimensions=(50, 200), timeout=ANSWER_SECONDS
    )
    try:
        terminal.sendline(f"{BEFORE[shell]}{read_documented_line(shell)}; echo rea''dy")
        terminal.expect_exact("ready\r\n")
        yield terminal
    finally:
        terminal.close(force=True)


def read_documented_line(shell: str) -> str:
    """What the documentation tells the users of a shell to run; for a start file, the line for it."""
    page = (ROOT / "docs/command-line.md").read_text()
    (line,) = re.findall(rf"^.*taskfleet completion {shell}.*$", page.partition("## Completion")[2], re.MULTILINE)
    quoted = re.match(r"echo '(.*)' >>", line)
    return quoted[1] if quoted else str(line)


def test_tab_completes_commands_options_and_names(terminal: "pexpect.spawn[str]") -> None:
    """The completed line is run: one that is not complete would be refused."""
    terminal.sendline("taskfleet sub\tparc\tjobs.ad\t40 2 --wai\t--outp\tjs\t")
    terminal.expect_exact('"result": 42')


@pytest.mark.kubernetes
def test_kubectl_finds_its_plugin_and_runs_it() -> None:
    kubectl = str(find_binaries() / "kubectl")
    assert str(BIN / "kubectl-taskfleet") in run([kubectl, "plugin", "list"])
    assert "Usage: kubectl taskfleet" in run([kubectl, "taskfleet", "--help"])


@pytest.mark.kubernetes
@pytest.mark.parametrize(
    ("words", "offered"),
    [(["do"], "doctor"), (["top", "--on"], "--once"), (["explain", ""], "parcels")],
    ids=["commands", "options", "queues"],
)
def test_kubectl_completes_its_plugin(words: list[str], offered: str, up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_URL", up.url)
    answer = run([str(find_binaries() / "kubectl"), "__complete", "taskfleet", *words]).split()
    assert answer[:1] == [offered]
    assert ":4" in answer
