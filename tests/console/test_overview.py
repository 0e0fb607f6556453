"""All queues: figures that stay fresh, filters, sorting, and what is said when there is nothing."""

from playwright.sync_api import expect
from tests.console.conftest import Fleet, OpenPage


def test_it_shows_each_queue_with_its_figures_and_why_it_has_its_workers(fleet: Fleet, open_page: OpenPage) -> None:
    fleet.decide("mail", 1, "1 running task, 2 slots a worker")
    before = fleet.api.request("GET", "/queues/reports").json()["ready"]
    for _ in range(3):
        fleet.api.submit("reports", "jobs.noop")
    page = open_page()
    reports = page.locator("tbody tr", has=page.get_by_role("link", name="reports"))
    expect(reports.locator(".c-waiting")).to_have_text(str(before + 3))
    mail = page.locator("tbody tr", has=page.get_by_role("link", name="mail"))
    expect(mail.locator(".c-workers")).to_have_text("1 / 1")
    expect(mail.locator(".c-reason")).to_have_text("1 running task, 2 slots a worker")
    fleet.decide("mail", 3, "3 replicas: many mails")
    expect(mail.locator(".c-workers")).to_have_text("1 / 3")


def test_filter_and_order_stand_in_the_address(fleet: Fleet, open_page: OpenPage) -> None:
    page = open_page()
    names = page.locator("tbody .c-name a")
    expect(names).to_have_text(["archive", "mail", "reports"])
    page.get_by_role("button", name="Queue").click()
    expect(names).to_have_text(["reports", "mail", "archive"])
    page.get_by_label("Filter queues").fill("mai")
    page.get_by_label("only with work or workers").check()
    expect(names).to_have_text(["mail"])
    page.reload()
    expect(names).to_have_text(["mail"])
    page.get_by_label("Filter queues").fill("nothing")
    expect(page.get_by_role("heading", name="No queue matches")).to_be_visible()


def test_it_can_be_walked_with_the_keyboard(fleet: Fleet, open_page: OpenPage) -> None:
    page = open_page()
    expect(page.locator("tbody .c-name a")).to_have_count(3)
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("tr.active")).to_contain_text("mail")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="mail")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page.get_by_role("heading", name="Tasks", exact=True)).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Queue", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("g")
    page.keyboard.press("q")
    expect(page.get_by_role("heading", name="Queues")).to_be_visible()


def test_dark_and_light_follow_the_system_until_one_is_chosen(open_page: OpenPage) -> None:
    page = open_page(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    expect(page.get_by_role("button", name="Light colours")).to_be_visible()
    dark = page.evaluate(ground)
    page.keyboard.press("d")
    expect(page.get_by_role("button", name="Dark colours")).to_be_visible()
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    assert page.evaluate(ground) == light


def test_who_sees_no_queue_is_told_how_to_make_one(fleet: Fleet, open_page: OpenPage) -> None:
    key = fleet.create_key("nobody", "read", queues=["nothing-*"])
    page = open_page(base_url=fleet.guarded_url)
    page.get_by_label("Key", exact=True).fill(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="There is no queue yet")).to_be_visible()
