"""What holds for every page: small and soon there, usable by everybody, and back by itself after an outage."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from tests.console.conftest import STATIC, Fleet, OpenPage

AXE = Path(__file__).parents[2] / "console" / "node_modules" / "axe-core" / "axe.min.js"
JAVASCRIPT_BYTES = 150_000
FIRST_PAINT_MILLISECONDS = 1_000


def test_it_is_small_and_soon_painted(open_page: OpenPage) -> None:
    scripts = [path.read_bytes() for path in STATIC.rglob("*.js")]
    assert sum(len(gzip.compress(script)) for script in scripts) < JAVASCRIPT_BYTES
    paints: list[float] = []
    # The machine may be busy with something else: one window out of six is enough to show that it can be had.
    while len(paints) < 6 and min(paints, default=FIRST_PAINT_MILLISECONDS) >= FIRST_PAINT_MILLISECONDS:
        page = open_page()
        expect(page.get_by_role("link", name="mail")).to_be_visible()
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        page.close()
    assert min(paints) < FIRST_PAINT_MILLISECONDS, paints


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible(fleet: Fleet, open_page: OpenPage, scheme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci in console/")
    failed = fleet.api.run("mail", "jobs.fail")
    page = open_page(color_scheme=scheme)
    found: dict[str, Any] = {}
    places = {
        "": "Queues",
        "queues/mail": "mail",
        "queues/nobody": "There is no such queue",
        "tasks": "Tasks",
        f"tasks/{failed['id']}": "jobs.fail",
    }
    for place, heading in places.items():
        page.goto(f"{fleet.stack.base_url}/ui/{place}")
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        expect(page.locator(".loading")).to_have_count(0)
        page.evaluate(AXE.read_text())
        found[place] = page.evaluate("axe.run({resultTypes: ['violations']}).then(result => result.violations)")
    page.goto(f"{fleet.guarded_url}/ui/")
    expect(page.get_by_label("Key", exact=True)).to_be_visible()
    page.evaluate(AXE.read_text())
    found["key"] = page.evaluate("axe.run({resultTypes: ['violations']}).then(result => result.violations)")
    told = {
        place: [(item["id"], [node["html"] for node in item["nodes"]][:3]) for item in items]
        for place, items in found.items()
        if items
    }
    assert told == {}, json.dumps(told, indent=1)


def test_an_unknown_address_leads_back(open_page: OpenPage) -> None:
    page = open_page("nothing/here")
    page.get_by_role("main").get_by_role("link", name="All queues").click()
    expect(page.get_by_role("heading", name="Queues")).to_be_visible()


def test_figures_and_streams_come_back_after_an_outage_without_a_reload(fleet: Fleet, open_page: OpenPage) -> None:
    task = fleet.api.submit("mail", "jobs.progress", 60, kwargs={"pause_seconds": 0.25})
    page = open_page(f"tasks/{task['id']}")
    page.evaluate("window.neverReloaded = true")
    expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
    fleet.stack.kill_api()
    expect(page.get_by_role("alert")).to_contain_text("The API does not answer.")
    expect(page.get_by_text("reconnecting")).to_be_visible()
    fleet.stack.start_api()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_text("reconnecting")).to_have_count(0)
    expect(page.locator(".crumbs .state")).to_have_text("succeeded")
    assert page.evaluate("window.neverReloaded")
