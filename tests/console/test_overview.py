"""All queues: figures that stay fresh, filters, sorting, and what is said when there is nothing."""

from playwright.sync_api import expect
from tests.console.conftest import Fleet, OpenPage


def test_it_shows_each_queue_with_its_figures_and_why_it_has_its_workers(fleet: Fleet, open_page: OpenPage) -> None:
    for _ in range(3):
        fleet.api.submit("reports", "jobs.noop")
    page = open_page()
    row = page.locator("tr", has=page.get_by_role("link", name="reports"))
    expect(row.locator(".c-waiting")).to_have_text("3")
    mail = page.locator("tr", has=page.get_by_role("link", name="mail"))
    expect(mail.locator(".c-workers")).to_have_text("1 / 1")
    expect(mail.locator(".c-reason")).to_have_text("1 running task, 2 slots a worker")
    fleet.decide("mail", 3, "3 replicas: many mails")
    expect(mail.locator(".c-workers")).to_have_text("1 / 3")
