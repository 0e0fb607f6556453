"""One task as it happens: progress, attempts, arguments, result, error; retried and cancelled."""

import pytest
from playwright.sync_api import expect
from tests.console.conftest import Fleet, OpenPage


def test_a_running_task_shows_its_progress_and_then_its_result(fleet: Fleet, open_page: OpenPage) -> None:
    task = fleet.api.submit("mail", "jobs.progress", 8, kwargs={"pause_seconds": 0.3}, metadata={"customer": "acme"})
    page = open_page(f"tasks/{task['id']}")
    bar = page.get_by_role("progressbar", name="Progress")
    expect(bar).to_be_visible()
    expect(page.get_by_role("region", name="Result")).to_contain_text("Not yet")
    expect(page.get_by_role("region", name="Result").locator("pre")).to_have_text("8")
    expect(bar).to_have_attribute("value", "1")
    expect(page.locator(".crumbs .state")).to_have_text("succeeded")
    arguments = page.get_by_role("region", name="Arguments", exact=True)
    expect(arguments).to_contain_text('{"pause_seconds":0.3}')
    expect(arguments).to_contain_text('{"customer":"acme"}')
    expect(page.locator(".bar-piece.running")).to_have_count(1)


def test_a_failed_task_shows_why_and_is_tried_again(fleet: Fleet, open_page: OpenPage) -> None:
    task = fleet.api.submit("mail", "jobs.fail", kwargs={"message": "no paper <b>left</b>"})
    page = open_page(f"tasks/{task['id']}")
    error = page.get_by_role("region", name="Error")
    expect(error).to_contain_text("ValueError: no paper <b>left</b>")
    expect(error.locator("pre").first).to_contain_text("Traceback (most recent call last)")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("region", name="Timeline").locator("tbody tr")).to_have_count(2)
    expect(page.locator(".crumbs .state")).to_have_text("failed")
    expect(error.get_by_text("Attempt 1: ValueError")).to_be_visible()


@pytest.mark.parametrize(("queue", "states"), [("reports", "queued"), ("mail", "running")])
def test_a_task_is_cancelled(fleet: Fleet, open_page: OpenPage, queue: str, states: str) -> None:
    """Also one that runs: its worker stops it."""
    task = fleet.api.submit(queue, "jobs.sleep", 60)
    page = open_page(f"tasks/{task['id']}")
    expect(page.locator(".crumbs .state")).to_have_text(states)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop it" if queue == "mail" else "Cancel it").click()
    expect(page.locator(".crumbs .state")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()


@pytest.mark.parametrize("task_id", ["01920000-0000-7000-8000-000000000000", "nonsense"])
def test_a_task_that_does_not_exist_is_said_to_be_missing(open_page: OpenPage, task_id: str) -> None:
    page = open_page(f"tasks/{task_id}")
    expect(page.get_by_role("heading", name="Not found")).to_be_visible()
