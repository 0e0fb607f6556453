"""The pictures of the docs, taken from a fleet at work. `PICTURES=write` puts them into docs/images."""

import os
from pathlib import Path

from playwright.sync_api import Page, expect
from tests.console.conftest import Fleet, OpenPage
from tests.support.stack import QueueOptions
from tests.support.waiting import eventually_sync

IMAGES = Path(__file__).parents[2] / "docs" / "images"
WRITES = os.environ.get("PICTURES") == "write"
SMALLEST_BYTES = 20_000
KEPT_INTERVALS = 88
VIEW = {"width": 1280, "height": 760}
QUEUES = (
    ("exports", 0, "0 workers: no task for 12 min (idleSeconds 60)"),
    ("invoices", 0, "0 workers: no task for 3 min (idleSeconds 60)"),
    ("newsletters", 0, "0 workers: no task for 41 min (idleSeconds 60)"),
    ("search-index", 1, "1 worker: 2.0 slots busy, 4 slots a worker"),
    ("thumbnails", 1, "1 worker: maxReplicas 1 (the rule wants 2)"),
)


def take(page: Page, name: str, folder: Path) -> None:
    """A picture that shows something."""
    path = folder / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    assert path.stat().st_size > SMALLEST_BYTES


def add_queues(fleet: Fleet) -> None:
    """More than the tests need: some at work, some that sleep."""
    for name, replicas, reason in QUEUES:
        fleet.stack.queues[name] = QueueOptions(namespace="shop", concurrency=4)
        fleet.stack.register(name)
        fleet.decide(name, replicas, reason, wait_seconds=1.2, load_slots=2.0)
        if replicas:
            fleet.stack.start_worker(name, pool="threads")
    names = [name for name, _, _ in QUEUES]
    eventually_sync(lambda: all(fleet.api.request("GET", f"/queues/{name}").is_success for name in names), 30)


def test_pictures_of_the_docs(fleet: Fleet, open_page: OpenPage, tmp_path: Path) -> None:
    folder = IMAGES if WRITES else tmp_path
    if WRITES:
        add_queues(fleet)
        at_work = [name for name, replicas, _ in QUEUES if replicas]
        fleet.keep_history(["mail", "reports", *at_work], KEPT_INTERVALS)
    rounds = 30 if WRITES else 2
    reason = "2 replicas: 24 waiting tasks of 1.2 s shall start within 5 s"
    fleet.decide("reports", 2, reason, wait_seconds=18.0, backlog_slots=3.4, arrivals_per_second=2.1, load_slots=2.5)
    reason = "1 replica: 1.6 slots busy, 2 slots a worker"
    fleet.decide("mail", 1, reason, load_slots=1.6, safety_slots=0.4, arrivals_per_second=1.3, wait_seconds=0.4)
    task = fleet.api.submit("mail", "jobs.progress", 40, kwargs={"pause_seconds": 1.4 if WRITES else 0.1})
    overview = open_page(viewport={"width": 1280, "height": 520})
    queue = open_page("queues/mail", viewport=VIEW)
    listed = open_page("tasks", viewport=VIEW, color_scheme="dark")
    one = open_page(f"tasks/{task['id']}", viewport=VIEW)
    for number in range(rounds):
        fleet.api.submit("mail", "jobs.add", number, 2)
        fleet.api.submit("mail", "jobs.sleep", 0.2)
        if number % 5 == 0:
            fleet.api.submit("reports", "jobs.sleep", 2, metadata={"customer": "acme"})
            fleet.api.submit("mail", "jobs.fail", kwargs={"message": "the other side refused the sender"})
        if WRITES:
            for name, replicas, _ in QUEUES:
                if replicas:
                    fleet.api.submit(name, "jobs.sleep", 1.5)
            overview.wait_for_timeout(500)
    expect(one.get_by_role("progressbar")).to_be_visible()
    expect(queue.locator(".plot canvas")).to_have_count(4)
    expect(listed.locator("tbody tr").first).to_be_visible()
    for page, name in ((overview, ""), (queue, "-queue"), (listed, "-tasks"), (one, "-task")):
        take(page, f"console{name}", folder)
