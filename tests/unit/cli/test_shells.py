"""The command line in real shells and as a plugin of a real kubectl."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taskfleet.exit_codes import ExitCode
from taskfleet.plugin import execute_plugin

BIN = Path(sys.executable).parent
PATH = f"{BIN}:{os.environ['PATH']}"
COMPLETE = """
source <(taskfleet completion bash)
complete_words() { COMP_WORDS=(taskfleet "$@") COMP_CWORD=$#; _taskfleet_completion taskfleet; echo "${COMPREPLY[@]}"; }
complete_words do
complete_words watch --ti
complete_words keys ''
"""
FAKE_CLUSTER = """
case "$*" in
  *"get services"*) echo service/{service} ;;
  *"get secret"*) {secret} ;;
  *port-forward*) echo "Forwarding from 127.0.0.1:1 -> 8000"; exec sleep 60 ;;
esac
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


def test_kubectl_finds_its_plugin_and_runs_it() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    assert str(BIN / "kubectl-taskfleet") in run(["kubectl", "plugin", "list"])
    assert "Usage: kubectl taskfleet" in run(["kubectl", "taskfleet", "--help"])


@pytest.mark.parametrize(
    ("secret", "key"), [("echo a2V5", "key"), ("echo forbidden >&2; exit 1", None)], ids=["key", "no right to the key"]
)
def test_the_plugin_talks_through_a_port_forward_with_the_key_of_the_release(
    secret: str, key: str | None, make_kubectl: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_kubectl(FAKE_CLUSTER.format(service="x-api", secret=secret))
    for name in ("TASKFLEET_URL", "TASKFLEET_API_KEY"):
        monkeypatch.setenv(name, "")
    seen: list[tuple[str | None, str | None]] = []

    def note(words: list[str], program: str) -> int:
        seen.append((os.environ.get("TASKFLEET_URL"), os.environ.get("TASKFLEET_API_KEY") or None))
        return ExitCode.OK

    monkeypatch.setattr("taskfleet.plugin.execute", note)
    assert execute_plugin(["queues"]) == ExitCode.OK
    assert seen == [("http://127.0.0.1:1", key)]


def test_the_plugin_says_where_it_looked_for_a_release(
    make_kubectl: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_kubectl("exit 0")
    monkeypatch.delenv("TASKFLEET_URL", raising=False)
    monkeypatch.setenv("TASKFLEET_NAMESPACE", "elsewhere")
    assert execute_plugin(["queues"]) == ExitCode.UNAVAILABLE
    assert "namespace elsewhere holds no API" in capsys.readouterr().err


def test_an_address_of_ones_own_needs_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute_plugin(["queues", "--url", "http://127.0.0.1:1"]) == ExitCode.UNAVAILABLE
    assert "http://127.0.0.1:1 does not answer" in capsys.readouterr().err
