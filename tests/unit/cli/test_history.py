"""`taskfleet history`: what it asks the API, and how what is unknown, or was not there, looks."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskfleet.commands.parameters import parse_past
from taskfleet.exit_codes import ExitCode
from taskfleet.main import execute
from taskfleet.models import QueueHistory

BUSY = {
    "at": "2026-01-31T12:00:00Z",
    "ready": 7,
    "running": 2.5,
    "oldest_wait_seconds": 4.125,
    "desired": 3,
    "workers": 1,
    "arrivals_per_second": 1.25,
    "finished": 12,
    "failed": 1,
    "wait_p50_seconds": 0.5,
    "wait_p95_seconds": 3.0,
}
UNKNOWN = {**dict.fromkeys(BUSY), "at": "2026-01-31T12:01:00Z"}
CHANGE = {"at": "2026-01-31T12:01:00Z", "before": 1, "replicas": 3, "reason": "7 waiting tasks"}
DOCUMENT = {
    "queue": "mail",
    "since": "2026-01-31T12:00:00Z",
    "until": "2026-01-31T12:02:00Z",
    "step_seconds": 60,
    "points": [BUSY, UNKNOWN],
    "decisions": [CHANGE],
}


class Asked(list[dict[str, Any]]):
    """The questions so far; `answer` is what they get."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: dict[str, Any] = DOCUMENT


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """A client that answers with a document, on a machine an hour east of Greenwich."""
    asked = Asked()

    def answer(client: Any, name: str, **span: Any) -> QueueHistory:
        asked.append({"name": name, **span})
        return QueueHistory.model_validate(asked.answer)

    monkeypatch.setattr("taskfleet.client.Client.queue_history", answer)
    with monkeypatch.context() as zone:
        zone.setenv("TZ", "Etc/GMT-1")
        time.tzset()
        yield asked
    time.tzset()


def test_each_interval_is_a_row_and_each_change_of_workers_has_its_reason(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["history", "mail"]) == ExitCode.OK
    title, columns, busy, unknown, _, _, change = capsys.readouterr().out.splitlines()
    assert title == "mail: intervals of 60 s"
    assert columns.split()[:4] == ["TIME", "WAITING", "RUNNING", "OLDEST"]
    day = "2026-01-31"
    assert busy.split() == [day, "13:00:00", "7", "2.5", "4.12s", "1/3", "1.2", "12", "1", "0.50s", "3.00s"]
    assert unknown.split() == [day, "13:01:00", "?", "?", "-", "?/?", "?", "?", "?", "-", "-"]
    assert change.split() == [day, "13:01:00", "1", "->", "3", "7", "waiting", "tasks"]
    assert asked == [{"name": "mail", "since": None, "until": None, "step_seconds": None}]


def test_scripts_get_the_document_of_the_api(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--since",
        "2026-01-31T10:00:00+00:00",
        "--until",
        "2026-01-31T12:00",
        "--step-seconds",
        "600",
        "-o",
        "json",
    ]
    assert execute(["history", "mail", *words]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == DOCUMENT
    begin = datetime(2026, 1, 31, 10, tzinfo=UTC)
    assert asked == [{"name": "mail", "since": begin, "until": begin + timedelta(hours=1), "step_seconds": 600}]


def test_a_time_of_which_nothing_is_kept_is_told(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    asked.answer = {**DOCUMENT, "points": [], "decisions": []}
    assert execute(["history", "mail"]) == ExitCode.OK
    told = capsys.readouterr()
    assert told.out == "mail: intervals of 60 s\n"
    assert "Nothing is kept of that time" in told.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("90m", 5400), ("1.5h", 5400), ("2d", 172_800)], ids=lambda value: str(value)
)
def test_a_time_may_be_said_as_how_long_ago_it_was(text: str, seconds: int) -> None:
    before = datetime.now(UTC)
    found = parse_past(text, "--since")
    assert found is not None
    assert before <= found + timedelta(seconds=seconds) <= datetime.now(UTC)
