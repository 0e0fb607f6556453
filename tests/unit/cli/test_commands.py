"""The command line without an API: arguments, usage errors, exit codes, help."""

import json
from pathlib import Path
from typing import Any

import pytest

from taskfleet.commands.parameters import parse_arguments
from taskfleet.exit_codes import ExitCode
from taskfleet.main import execute
from taskfleet.progress import read_share

NOBODY = ["--url", "http://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["1", "two", "3.5", "true", "null"], ([1, "two", 3.5, True, None], {})),
        (['{"a": 1}', "x=[1]", "y=text", "z=a=b"], ([{"a": 1}], {"x": [1], "y": "text", "z": "a=b"})),
        (['"1"', "s3://bucket/a=b"], (["1", "s3://bucket/a=b"], {})),
        ([], ([], {})),
    ],
)
def test_words_become_arguments(words: list[str], expected: tuple[list[Any], dict[str, Any]]) -> None:
    assert parse_arguments(words) == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "No such command"),
        (["submit", "q"], "give a QUEUE and a TASK"),
        (["submit", "q", "t", "--file", "-", "--wait", "--eta", "12:00"], "--eta, --wait: not with --file"),
        (["submit", "q", "t", "a=1", "--file", "-"], "words: not with --file"),
        (["submit", "q", "t", "a=1", "2"], "put plain arguments first"),
        (["submit", "q", "t", "--args", "{}"], "--args must be a JSON array"),
        (["submit", "q", "t", "--kwargs", "{"], "--kwargs is no valid JSON"),
        (["submit", "q", "t", "--metadata", "x"], "write key=value"),
        (["submit", "q", "t", "--eta", "soon"], "write a time such as"),
        (["submit", "q", "t", "--priority", "10"], "priority"),
        (["history", "q", "--since", "yesterday"], "--since 'yesterday': write a time such as"),
        (["history", "q", "--since", f"{10**400}d"], "is before all times"),
        (["list", "--state", "odd"], "odd"),
        (["queues", "--tasks"], "need the NAME"),
        (["queues", "q", "--redrive", "--purge"], "exclude one another"),
        (["schedules", "set", "s", "q", "t"], "give either --cron or --every"),
        (["up", "-f", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["up", "--broker", "http://user:secret@x"], "--broker http://x: write amqp://"),
        (["up", "--database", "oracle://u:secret@x"], "--database: 'oracle' is not known"),
        (["up", "--redis", "http://x"], "--redis http://x: write redis://"),
    ],
)
def test_wrong_usage_names_the_fix_and_exits_with_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(arguments) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert told in " ".join(captured.err.split())
    assert "secret" not in captured.err
    assert not captured.out


@pytest.mark.parametrize(
    "arguments", [["get", "x"], ["list"], ["queues"], ["history", "q"], ["schedules"], ["submit", "q", "t"]]
)
def test_api_that_does_not_answer_is_exit_code_4(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskfleet.client.FIRST_PAUSE_SECONDS", 0.01)
    assert execute([*arguments, *NOBODY]) == ExitCode.UNAVAILABLE
    assert "http://127.0.0.1:1 does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["{", "[1]"])
def test_bad_line_of_a_file_is_named(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps({"queue": "q", "task": "t"}) + "\n" + line + "\n")
    assert execute(["submit", "-f", str(file), *NOBODY]) == ExitCode.USAGE
    assert f"{file}:2" in capsys.readouterr().err


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["--help"]) == ExitCode.OK
    words = " ".join(capsys.readouterr().out.split())
    assert "Exit codes: 0 done" in words
    assert "5 the time to wait is over" in words


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        ({"current": 3, "total": 12}, 0.25),
        ({"done": 1, "total": 2, "text": "x"}, 0.5),
        ({"percent": 30}, 0.3),
        ({"current": 30, "total": 10}, 1.0),
        ({"current": 1, "total": 0}, None),
        ({"current": "1", "total": 2}, None),
        (0.5, 0.5),
        (42, None),
        ("half", None),
        (True, None),
        (None, None),
    ],
)
def test_share_is_read_from_the_usual_progress_reports(progress: Any, share: float | None) -> None:
    assert read_share(progress) == share
