"""The list of tasks: filters in the address, live rows, thousands of them, many retried and cancelled at once."""

import json

import httpx
from playwright.sync_api import Response, expect
from tests.console.conftest import ADMIN_KEY, Fleet, OpenPage
from tests.support.stack import API_PREFIX
from tests.support.waiting import eventually_sync

MANY = 10_000
JSON = {"Content-Type": "application/json"}
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


def is_stream(answer: Response) -> bool:
    """Whether it is the stream of a listing, open."""
    return "tasks:stream" in answer.url and answer.ok


def test_filters_stand_in_the_address(fleet: Fleet, open_page: OpenPage) -> None:
    failed = fleet.api.submit("mail", "jobs.fail", metadata={"case": "filters"})
    fleet.api.submit("mail", "jobs.noop", metadata={"case": "filters"})
    fleet.api.wait(failed["id"])
    page = open_page("tasks?queue=mail&metadata=case%3Dfilters")
    names = page.locator("tbody .c-task a")
    expect(names).to_have_text(["jobs.noop", "jobs.fail"])
    page.get_by_role("button", name="failed").click()
    expect(names).to_have_text(["jobs.fail"])
    assert "state=failed" in page.url
    page.reload()
    expect(names).to_have_text(["jobs.fail"])
    page.get_by_label("Task name").fill("jobs.nothing")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="No task matches")).to_be_visible()
    page.get_by_role("link", name="Clear filters").click()
    expect(names.first).to_be_visible()


def test_rows_change_and_appear_as_it_happens(fleet: Fleet, open_page: OpenPage) -> None:
    page = open_page("tasks?metadata=case%3Dlive")
    expect(page.get_by_role("heading", name="No task matches")).to_be_visible()
    first = fleet.api.submit("mail", "jobs.sleep", 90, metadata={"case": "live"})
    row = page.locator(f"tr[data-key='{first['id']}']")
    expect(row.locator(".c-state")).to_have_text("running")
    with page.expect_response(lambda answer: "tasks:events" in answer.url):
        second = fleet.api.submit("reports", "jobs.noop", metadata={"case": "live"})
    fleet.api.request("DELETE", f"/tasks/{first['id']}", params={"terminate": True})
    expect(row.locator(".c-state")).to_have_text("cancelled")
    fleet.api.request("DELETE", f"/tasks/{second['id']}")
    expect(page.locator(f"tr[data-key='{second['id']}'] .c-state")).to_have_text("cancelled")


def test_new_rows_come_by_one_stream_also_after_a_restart_of_the_api(fleet: Fleet, open_page: OpenPage) -> None:
    page = open_page("tasks?metadata=case%3Dstream")
    with page.expect_response(is_stream):
        page.reload()
    page.evaluate("window.loadedOnce = true")
    looks: list[str] = []
    page.on("request", lambda request: looks.append(request.url) if "/tasks?" in request.url else None)
    first = fleet.api.submit("reports", "jobs.noop", metadata={"case": "stream"})
    expect(page.locator(f"tr[data-key='{first['id']}']")).to_be_visible()
    assert looks == []
    with page.expect_response(is_stream):
        fleet.stack.stop_api()
        body = {"queue": "reports", "task": "jobs.noop", "metadata": {"case": "stream"}}
        second = httpx.post(f"{fleet.guarded_url}{API_PREFIX}/tasks", json=body, headers=ADMIN, trust_env=False).json()
        fleet.stack.start_api()
    expect(page.locator(f"tr[data-key='{second['id']}']")).to_be_visible()
    third = fleet.api.submit("reports", "jobs.noop", metadata={"case": "stream"})
    expect(page.locator("tbody tr[data-key]").first).to_have_attribute("data-key", third["id"])
    expect(page.locator("tbody tr[data-key]")).to_have_count(3)
    assert page.evaluate("window.loadedOnce") is True


def test_without_the_stream_new_rows_are_looked_for(fleet: Fleet, open_page: OpenPage) -> None:
    page = open_page()
    page.route("**/tasks:stream*", lambda route: route.fulfill(status=404, body="{}"))
    page.goto(f"{fleet.stack.base_url}/ui/tasks?metadata=case%3Dlooked")
    expect(page.get_by_role("heading", name="No task matches")).to_be_visible()
    task = fleet.api.submit("reports", "jobs.noop", metadata={"case": "looked"})
    expect(page.locator(f"tr[data-key='{task['id']}']")).to_be_visible()


def test_many_are_retried_and_cancelled_at_once(fleet: Fleet, open_page: OpenPage) -> None:
    ids = [fleet.api.submit("reports", "jobs.noop", metadata={"case": "bulk"})["id"] for _ in range(12)]
    page = open_page("tasks?metadata=case%3Dbulk")
    states = page.locator("tbody .c-state")
    expect(states).to_have_text(["queued"] * 12)
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.get_by_role("button", name="Select all 12").click()
    page.get_by_role("button", name="Cancel 12").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel them").click()
    expect(page.get_by_text("12 tasks cancelled.")).to_be_visible()
    expect(states).to_have_text(["cancelled"] * 12)
    page.get_by_role("button", name="Select all 12").click()
    page.get_by_role("button", name="Retry 12").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.get_by_text("12 tasks retried.")).to_be_visible()
    assert {fleet.api.get(task_id)["attempt"] for task_id in ids} == {2}


def test_ten_thousand_rows_scroll(fleet: Fleet, open_page: OpenPage) -> None:
    items = [{"queue": "archive", "task": "jobs.noop", "args": [number]} for number in range(MANY)]
    assert fleet.api.request("POST", "/tasks:batch", content=json.dumps(items), headers=JSON).status_code == 202
    page = open_page("tasks?queue=archive&task=jobs.noop")
    expect(page.locator("tbody .c-args").first).to_have_text(str(MANY - 1))
    page.locator(".scroller").focus()
    last = page.locator("tbody .c-args").get_by_text("0", exact=True)

    def reach_the_end() -> bool:
        page.keyboard.press("End")
        return last.is_visible()

    eventually_sync(reach_the_end, 60, interval_seconds=0.1)
    expect(page.get_by_text(f"{MANY:,} tasks", exact=True)).to_be_visible()
    assert page.locator("tbody tr").count() < 100
    page.keyboard.press("Home")
    expect(page.locator("tbody .c-args").first).to_have_text(str(MANY - 1))
