"""What strangers choose (names, arguments, metadata, errors) is shown as text and never becomes a part of the page."""

from playwright.sync_api import expect
from tests.console.conftest import Fleet, OpenPage

SCRIPT = '<img src="x" onerror="document.title=\'owned\'"><script>document.title="owned"</script>'
LINK = "javascript:document.title='owned'"


def test_names_arguments_and_metadata_are_text(fleet: Fleet, open_page: OpenPage) -> None:
    task = fleet.api.submit("archive", SCRIPT, SCRIPT, kwargs={SCRIPT: LINK}, metadata={SCRIPT: SCRIPT})
    page = open_page(f"tasks/{task['id']}")
    expect(page.get_by_role("heading", level=1)).to_have_text(SCRIPT)
    expect(page.get_by_role("region", name="Arguments", exact=True)).to_contain_text("onerror")
    for path in ("tasks?queue=archive", "queues/archive", ""):
        page = open_page(path)
        expect(
            page.get_by_role("link", name="archive").or_(page.get_by_role("heading", name="archive")).first
        ).to_be_visible()
        assert page.locator("img[src=x], main script").count() == 0
        assert "owned" not in page.title()


def test_errors_are_text(fleet: Fleet, open_page: OpenPage) -> None:
    task = fleet.api.submit("mail", "jobs.fail", kwargs={"message": f"{SCRIPT} {LINK}"})
    page = open_page(f"tasks/{task['id']}")
    expect(page.get_by_role("region", name="Error")).to_contain_text(f"ValueError: {SCRIPT} {LINK}")
    assert page.locator(f"img[src=x], main script, [href^='{LINK[:11]}']").count() == 0
    assert "owned" not in page.title()
