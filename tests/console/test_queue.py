"""One queue: its figures over time, its workers, its dead tasks, and a form for each of its tasks."""

from playwright.sync_api import expect
from tests.console.conftest import Fleet, OpenPage


def test_it_shows_its_workers_with_busy_slots_and_the_steps_of_the_decision(fleet: Fleet, open_page: OpenPage) -> None:
    fleet.decide("mail", 1, "1 running task, 2 slots a worker")
    task = fleet.api.submit("mail", "jobs.sleep", 90)
    page = open_page("queues/mail")
    workers = page.get_by_role("region", name="Workers", exact=True)
    expect(workers.get_by_role("row", name="mail-1")).to_contain_text("1 of 2")
    steps = page.get_by_role("region", name="Why so many workers").locator(".steps").get_by_role("listitem")
    expect(steps.last).to_contain_text("1 running task, 2 slots a worker")
    charts = page.get_by_role("region", name="Now and before")
    expect(charts.locator("canvas")).to_have_count(4)
    fleet.api.request("DELETE", f"/tasks/{task['id']}", params={"terminate": True})
    expect(workers.get_by_role("row", name="mail-1")).to_contain_text("0 of 2")


def test_a_task_is_submitted_by_the_form_of_its_parameters(fleet: Fleet, open_page: OpenPage) -> None:
    page = open_page("queues/mail")
    form = page.get_by_role("region", name="Submit a task")
    form.get_by_label("Task").select_option("jobs.add")
    form.get_by_label("x number").fill("two")
    form.get_by_role("button", name="Submit").click()
    expect(form.get_by_role("alert")).to_have_text("x must be a number.")
    form.get_by_label("x number").fill("2")
    form.get_by_label("y number").fill("40.5")
    form.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="jobs.add")).to_be_visible()
    expect(page.get_by_role("region", name="Result")).to_contain_text("42.5")


def test_what_the_api_refuses_is_said_in_the_form(fleet: Fleet, open_page: OpenPage) -> None:
    page = open_page("queues/mail")
    form = page.get_by_role("region", name="Submit a task")
    form.get_by_label("Task").select_option("jobs.echo")
    form.get_by_label("args positional").fill("[1, ")
    form.get_by_role("button", name="Submit").click()
    expect(form.get_by_role("alert")).to_contain_text("must be JSON")
    form.get_by_label("args positional").fill('["\\u0000"]')
    form.get_by_role("button", name="Submit").click()
    expect(form.get_by_role("alert")).to_contain_text("not valid")


def test_dead_tasks_are_run_again_or_deleted(fleet: Fleet, open_page: OpenPage) -> None:
    ids = [fleet.api.submit("mail", "jobs.die_hard")["id"] for _ in range(2)]
    for task_id in ids:
        fleet.api.wait(task_id, "dead", timeout_seconds=30)
    page = open_page("queues/mail")
    dead = page.get_by_role("region", name="Dead letters")
    expect(dead.get_by_role("link", name="jobs.die_hard")).to_have_count(2)
    dead.get_by_role("button", name="Redrive all").click()
    page.get_by_role("dialog").get_by_role("button", name="Leave it").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    dead.get_by_role("button", name="Redrive all").click()
    page.get_by_role("dialog").get_by_role("button", name="Run again").click()
    expect(page.get_by_text("2 tasks started again.")).to_be_visible()
    for task_id in ids:
        assert fleet.api.wait(task_id, "dead", timeout_seconds=30)["attempt"] == 2
    expect(dead.get_by_role("link", name="jobs.die_hard")).to_have_count(2)
    dead.get_by_role("button", name="Purge").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("2 tasks deleted.")).to_be_visible()
    expect(dead.get_by_role("heading", name="None")).to_be_visible()


def test_a_queue_without_workers_says_so(open_page: OpenPage) -> None:
    page = open_page("queues/archive")
    expect(page.get_by_role("heading", name="No workers")).to_be_visible()
    expect(page.get_by_role("heading", name="Nothing decided yet")).to_be_visible()
    expect(page.get_by_text("no worker announced its tasks yet")).to_be_visible()


def test_a_queue_that_does_not_exist_is_no_error_page(open_page: OpenPage) -> None:
    page = open_page("queues/nobody")
    expect(page.get_by_role("heading", name="There is no such queue")).to_be_visible()
