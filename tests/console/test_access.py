"""Where keys are on: the page asks, sends the key in a header, keeps it in the tab alone, and says what is refused."""

from playwright.sync_api import expect
from tests.console.conftest import ADMIN_KEY, Fleet, OpenPage


def test_the_key_is_asked_for_kept_in_the_tab_and_forgotten(fleet: Fleet, open_page: OpenPage) -> None:
    page = open_page(base_url=fleet.guarded_url)
    key = page.get_by_label("Key", exact=True)
    expect(key).to_be_focused()
    key.fill("a wrong key that is long")
    page.get_by_role("button", name="Open the console").click()
    expect(page.get_by_role("alert")).to_have_text("The API does not accept this key.")
    key.fill(ADMIN_KEY)
    page.get_by_role("button", name="Open the console").click()
    expect(page.get_by_role("link", name="mail")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('taskfleet.key')") == ADMIN_KEY
    assert page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0
    page.reload()
    expect(page.get_by_role("link", name="mail")).to_be_visible()
    page.get_by_role("button", name="Forget key").click()
    expect(key).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_streams_carry_the_key(fleet: Fleet, open_page: OpenPage) -> None:
    task = fleet.api.submit("mail", "jobs.progress", 6, kwargs={"pause_seconds": 0.3})
    page = open_page(f"tasks/{task['id']}", base_url=fleet.guarded_url)
    page.get_by_label("Key", exact=True).fill(ADMIN_KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
    expect(page.locator(".crumbs .state")).to_have_text("succeeded")


def test_what_a_key_may_not_do_is_said(fleet: Fleet, open_page: OpenPage) -> None:
    task = fleet.api.submit("reports", "jobs.noop")
    key = fleet.create_key("reader", "read")
    page = open_page(f"tasks/{task['id']}", base_url=fleet.guarded_url)
    page.get_by_label("Key", exact=True).fill(key)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()
    expect(page.get_by_text("needs a key with the scope cancel")).to_be_visible()
