"""The command line in real shells and as a plugin of a real kubectl."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.controlplane import find_binaries

BIN = Path(sys.executable).parent
PATH = f"{BIN}:{os.environ['PATH']}"
COMPLETE = """
source <(taskfleet completion bash)
complete_words() { COMP_WORDS=(taskfleet "$@") COMP_CWORD=$#; _taskfleet_completion taskfleet; echo "${COMPREPLY[@]}"; }
complete_words do
complete_words watch --ti
complete_words keys ''
"""


def run(command: list[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKFLEET")}
    done = subprocess.run(
        command, env=environment | {"PATH": PATH}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bash_completes_commands_and_options() -> None:
    completed = [set(line.split()) for line in run(["bash", "-euc", COMPLETE]).splitlines()]
    assert completed == [{"doctor"}, {"--timeout"}, {"create", "list", "revoke"}]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_of_their_own(shell: str) -> None:
    """Where the shell is there, it also takes the script."""
    script = run(["taskfleet", "completion", shell])
    assert "_TASKFLEET_COMPLETE=complete_" + shell in script
    if found := shutil.which(shell):
        subprocess.run([found, "-n", "/dev/stdin"], input=script, text=True, timeout=30, check=True)


@pytest.mark.kubernetes
def test_kubectl_finds_its_plugin_and_runs_it() -> None:
    kubectl = str(find_binaries() / "kubectl")
    assert str(BIN / "kubectl-taskfleet") in run([kubectl, "plugin", "list"])
    assert "Usage: kubectl taskfleet" in run([kubectl, "taskfleet", "--help"])
