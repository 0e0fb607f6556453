"""The plugin of kubectl: how it finds a release, its address and its key."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from taskfleet.exit_codes import ExitCode
from taskfleet.kubectl import create_objects
from taskfleet.plugin import execute_plugin

FAKE_CLUSTER = """
case "$*" in
  *"get services"*) echo service/{service} ;;
  *"get secret"*) {secret} ;;
  *port-forward*) echo "Forwarding from 127.0.0.1:1 -> 8000"; exec sleep 60 ;;
esac
"""


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


def test_an_address_of_ones_own_needs_no_cluster(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskfleet.client.FIRST_PAUSE_SECONDS", 0.01)
    assert execute_plugin(["queues", "--url", "http://127.0.0.1:1"]) == ExitCode.UNAVAILABLE
    assert "http://127.0.0.1:1 does not answer" in capsys.readouterr().err


def test_objects_are_created_as_one_document(make_kubectl: Callable[[str], None], tmp_path: Path) -> None:
    """kubectl 1.32 takes no stream of them on its standard input; it always writes one."""
    sent = tmp_path / "sent.json"
    make_kubectl(f"""cat > {sent}; echo '{{"n": 1}}'; echo '{{"n": 2}}'""")
    assert create_objects([{"kind": "A"}, {"kind": "B"}]) == [{"n": 1}, {"n": 2}]
    assert [item["kind"] for item in json.loads(sent.read_text())["items"]] == ["A", "B"]
