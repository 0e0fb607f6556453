"""Charts and sparklines begin with what the API keeps: after a reload, after a restart, for a thousand queues."""

import json
import sys
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Request, expect
from tests.console.conftest import Fleet, OpenPage
from tests.support.events import build_registration
from tests.support.waiting import eventually_sync

from taskfleet_core import wire

INTERVALS, AT_WORK = 60, 40
MANY = [f"team-{number % 20:02}-queue-{number:04}" for number in range(1000)]


@pytest.fixture(scope="module", autouse=True)
def kept(fleet: Fleet) -> None:
    """What the API would have kept had it run for longer; an interval is written once."""
    fleet.keep_history(["reports", *sorted(MANY)[:AT_WORK]], INTERVALS)


def test_charts_begin_with_what_was_before_the_page_was_opened(fleet: Fleet, open_page: OpenPage) -> None:
    fleet.decide("reports", 1, "1 replica: nothing waits")
    page = open_page("queues/reports")
    charts = page.get_by_role("region", name="Now and before")
    marks = charts.locator(".happened")
    expect(marks).not_to_have_count(0)
    marks.first.hover()
    expect(marks.first.locator(".tip")).to_contain_text("waiting tasks of 1.2 s shall start within 5 s")
    expect(page.get_by_role("list", name="Last changes").get_by_role("listitem").first).to_contain_text("→")
    page.reload()
    expect(marks).not_to_have_count(0)
    fleet.stack.restart_api()
    with page.expect_response(lambda answer: "/reports/history" in answer.url and answer.ok):
        charts.get_by_role("button", name="1 h", exact=True).click()
    assert "range=1h" in page.url
    expect(marks).not_to_have_count(0)
    expect(charts.get_by_role("button", name="1 h", exact=True)).to_have_attribute("aria-pressed", "true")


def test_times_that_nobody_kept_are_no_error(open_page: OpenPage) -> None:
    page = open_page("queues/archive?range=24h")
    charts = page.get_by_role("region", name="Now and before")
    expect(charts.locator("canvas")).to_have_count(4)
    expect(charts.locator(".happened")).to_have_count(0)


@pytest.fixture
def many(fleet: Fleet) -> Iterator[None]:
    """A thousand queues beside the three, of which the first are at work; forgotten afterwards."""

    def count() -> int:
        return len(fleet.api.request("GET", "/queues").json()["items"])

    registered = [text for name in MANY for text in (name, json.dumps(build_registration(name)))]
    fleet.stack.valkey.command("HSET", wire.REGISTRY_KEY, *registered)
    eventually_sync(lambda: count() > len(MANY), 60)
    yield
    fleet.stack.valkey.command("HDEL", wire.REGISTRY_KEY, *MANY)
    gone = [text for name in MANY for text in (str(time.time()), name)]
    fleet.stack.valkey.command("ZADD", wire.REMOVED_QUEUES_KEY, *gone)
    eventually_sync(lambda: count() < 10, 90)


@pytest.mark.usefixtures("many")
@pytest.mark.timeout(240)
def test_a_thousand_queues_scroll_with_their_sparklines(open_page: OpenPage) -> None:
    page = open_page("?q=team")
    asked: list[str] = []

    def note(request: Request) -> None:
        if "queues:history" in request.url:
            asked.append(request.url)

    page.on("request", note)
    rows, lines = page.locator("tbody tr[data-key]"), page.locator("svg.spark polyline")
    expect(page.get_by_text("1000 of")).to_be_visible()
    expect(lines.nth(15)).to_be_visible()
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    sys.stdout.write(f"1,000 queues: first contentful paint after {paint:.0f} ms\n")
    assert rows.count() < 80
    page.locator(".scroller").focus()
    page.keyboard.press("End")
    expect(page.get_by_role("link", name=max(MANY))).to_be_visible()
    assert rows.count() < 80
    page.keyboard.press("Home")
    expect(page.get_by_role("link", name=min(MANY))).to_be_visible()
    expect(lines.nth(15)).to_be_visible()
    assert page.evaluate("document.querySelectorAll('*').length") < 2500
    assert 0 < len(asked) < 12, len(asked)  # one for all rows in sight
