"""`taskfleet top`: which queues are asked about, in which order they stand, and how what is unknown looks."""

import io
from typing import Any

import httpx
import pytest
from rich.console import Console

from taskfleet.async_client import AsyncClient
from taskfleet.errors import NotFoundError
from taskfleet.models import Event, Queue
from taskfleet.overview.gathering import Overview, QueueLine, fetch_overview
from taskfleet.overview.rendering import build_row, build_screen
from taskfleet.progress import WaitView
from taskfleet_core.states import TaskState

TERMS = {"wait_seconds": 12.0}
DECISION = {"replicas": 3, "cause": "backlog", "reason": "why so many", "acting": True, "terms": TERMS}
QUIET = {"ready": 0, "unacknowledged": 0, "workers": 0, "consuming": 0, "slots": 0, "busy": 0}
BUSY = {"ready": 9, "unacknowledged": 4, "workers": 2, "consuming": 2, "slots": 4, "busy": 4}
NOTHING = dict.fromkeys(QUIET)


def api_of(queues: dict[str, dict[str, Any]]) -> tuple[AsyncClient, list[str]]:
    """A client of an API with these queues, and the paths that it asked for."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if request.url.path.endswith("/broken/scaling"):
            return httpx.Response(404, json={"detail": "gone"})
        if request.url.path.endswith("/scaling"):
            return httpx.Response(200, json={"queue": "x", "decision": DECISION, "steps": []})
        return httpx.Response(200, json={"items": [{"name": name, **figures} for name, figures in queues.items()]})

    return AsyncClient("http://api", transport=httpx.MockTransport(answer), retries=0), asked


async def test_the_busiest_come_first_and_only_they_are_asked_about() -> None:
    client, asked = api_of({"a": QUIET, "b": BUSY, "c": NOTHING, "d": {**BUSY, "ready": 99}})
    async with client:
        overview = await fetch_overview(client, [], limit=3)
    assert [line.queue.name for line in overview.lines] == ["d", "b", "c"]
    assert len(overview.queues) == 4
    assert sorted(path for path in asked if "scaling" in path) == [f"/api/v1/queues/{name}/scaling" for name in "bcd"]


async def test_a_decision_that_cannot_be_read_does_not_hide_the_queue() -> None:
    client, _ = api_of({"broken": BUSY})
    async with client:
        (line,) = (await fetch_overview(client, ["broken"], None)).lines
    assert build_row(line) == ["broken", "9", "4", "?", "2/?", "4/4", "?", "?", "the decision cannot be read"]
    assert Overview([line], [line.queue]).build_document()[0]["wanted"] is None


async def test_a_name_that_is_no_queue_is_not_found() -> None:
    client, _ = api_of({"a": QUIET})
    async with client:
        with pytest.raises(NotFoundError, match="'b'"):
            await fetch_overview(client, ["b"], None)


@pytest.mark.parametrize(
    ("figures", "scaling", "expected"),
    [
        (BUSY, {"decision": DECISION}, ["q", "9", "4", "12.0s", "2/3", "4/4", "?", "?", "why so many"]),
        (QUIET, {"decision": None}, ["q", "0", "0", "-", "0/?", "0/0", "?", "?", "nothing decided yet"]),
        (
            NOTHING,
            {"decision": {**DECISION, "acting": False, "terms": {}}},
            ["q", "?", "?", "?", "?/3", "?", "?", "?", "[reported only] why so many"],
        ),
    ],
    ids=["busy", "quiet", "unknown is not zero"],
)
def test_a_row_says_what_is_known(figures: dict[str, Any], scaling: dict[str, Any], expected: list[str]) -> None:
    assert build_row(QueueLine(Queue(name="q", **figures), scaling)) == expected


def test_the_screen_tells_totals_troubles_and_what_is_not_shown() -> None:
    queues = [Queue(name=name, **BUSY) for name in "ab"]
    console = Console(file=io.StringIO(), width=140)
    console.print(build_screen(Overview([QueueLine(queues[0])], queues), "http://api", "it does not answer"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "queues 2   waiting 18   in hand 8   workers 4" in text
    assert "it does not answer; these figures are older" in text
    assert "and 1 more" in text


def test_progress_moves_a_bar_in_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    event = {"id": "t1", "state": TaskState.RUNNING}
    with WaitView(["t1"], console) as view:
        assert view.is_shown
        view.show(Event(kind="progress", progress={"current": 1, "total": 4}, **event))
    assert "25%" in console.file.getvalue()  # type: ignore[attr-defined]
