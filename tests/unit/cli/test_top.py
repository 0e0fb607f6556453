"""`taskfleet top`: which queues are asked about, in which order they stand, and how what is unknown looks."""

import io
from typing import Any

import httpx
import pytest
from rich.console import Console

from taskfleet.async_client import AsyncClient
from taskfleet.errors import NotFoundError
from taskfleet.models import Event, Queue
from taskfleet.overview.gathering import Overview, fetch_overview
from taskfleet.overview.rendering import build_row, build_screen
from taskfleet.progress import WaitView
from taskfleet_core.states import TaskState

TERMS = {"wait_seconds": 12.0}
DECISION = {"replicas": 3, "cause": "backlog", "reason": "why so many", "acting": True, "terms": TERMS}
QUIET = {"ready": 0, "unacknowledged": 0, "workers": 0, "consuming": 0, "slots": 0, "busy": 0}
BUSY = {"ready": 9, "unacknowledged": 4, "workers": 2, "consuming": 2, "slots": 4, "busy": 4}
NOTHING = dict.fromkeys(QUIET)


def api_of(queues: dict[str, dict[str, Any]]) -> AsyncClient:
    """A client of an API with these queues."""
    items = [{"name": name, **figures} for name, figures in queues.items()]
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"items": items}))
    return AsyncClient("http://api", transport=transport, retries=0)


async def test_the_busiest_come_first() -> None:
    async with api_of({"a": QUIET, "b": BUSY, "c": NOTHING, "d": {**BUSY, "ready": 99}}) as client:
        overview = await fetch_overview(client, [], limit=3)
    assert [queue.name for queue in overview.shown] == ["d", "b", "c"]
    assert len(overview.queues) == 4


async def test_scripts_get_what_is_wanted_beside_the_figures() -> None:
    async with api_of({"a": {**BUSY, "decision": DECISION}, "b": NOTHING}) as client:
        known, unknown = (await fetch_overview(client, [], None)).build_document()
    assert (known["ready"], known["wanted"], known["wait_seconds"]) == (9, 3, 12.0)
    assert (unknown["ready"], unknown["wanted"], unknown["wait_seconds"]) == (None, None, None)


async def test_a_name_that_is_no_queue_is_not_found() -> None:
    async with api_of({"a": QUIET}) as client:
        with pytest.raises(NotFoundError, match="'b'"):
            await fetch_overview(client, ["b"], None)


@pytest.mark.parametrize(
    ("figures", "decision", "expected"),
    [
        (BUSY, DECISION, ["q", "9", "4", "12.0s", "2/3", "4/4", "?", "?", "why so many"]),
        (QUIET, None, ["q", "0", "0", "-", "0/?", "0/0", "?", "?", "no decision is known"]),
        (
            NOTHING,
            {**DECISION, "acting": False, "terms": {}},
            ["q", "?", "?", "?", "?/3", "?", "?", "?", "[reported only] why so many"],
        ),
    ],
    ids=["busy", "quiet", "unknown is not zero"],
)
def test_a_row_says_what_is_known(figures: dict[str, Any], decision: dict[str, Any], expected: list[str]) -> None:
    assert build_row(Queue(name="q", decision=decision, **figures)) == expected


def test_the_screen_tells_totals_troubles_and_what_is_not_shown() -> None:
    queues = [Queue(name=name, **BUSY) for name in "ab"]
    console = Console(file=io.StringIO(), width=140)
    console.print(build_screen(Overview(queues[:1], queues), "http://api", "it does not answer"))
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
