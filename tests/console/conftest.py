"""The console in Debian's Chromium on a running installation: one browser and one stack for all of these tests."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from tests.support.stack import API_PREFIX, QueueOptions, Stack, StackOptions, running_stack
from tests.support.task_api import TaskApi

from taskfleet_api.records import QueueSample, open_records
from taskfleet_api.records.sampling import floor_to
from taskfleet_core import wire
from taskfleet_core.scaling import Terms

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
STATIC = Path(__file__).parents[2] / "api" / "src" / "taskfleet_api" / "console" / "static"
WAIT_MILLISECONDS = 15_000
ADMIN_KEY = "correct-horse-battery-staple"


HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The time limit counts the test alone: the first one starts a whole stack and a browser."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(120, func_only=True))


class Fleet:
    """A queue with a worker (`mail`) and two without (`reports`, `archive`); one API for all, one that wants a key."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        for name in ("mail", "reports", "archive"):
            stack.add_queue(name, QueueOptions(concurrency=2, delivery_limit=1))
        stack.start_worker("mail")
        self.api = TaskApi(stack.client())
        self.guarded_url = stack.url_of(stack.add_api(auth_mode="apiKey", admin_key=ADMIN_KEY))

    def create_key(self, name: str, *scopes: str, queues: list[str] | None = None) -> str:
        """A key that the second replica takes."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        body = {"name": name, "scopes": scopes, "queues": queues}
        answer = httpx.post(f"{self.guarded_url}{API_PREFIX}/keys", json=body, headers=headers, trust_env=False)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    def log_tails(self) -> list[tuple[str, str]]:
        """For the report of a failed test."""
        return self.stack.log_tails()

    def keep_history(self, names: Sequence[str], count: int, step_seconds: int = 10) -> None:
        """The last `count` intervals as the API keeps them, of queues at work: twice another number of workers."""
        # The thread of the tests has the browser's event loop.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, self._keep_history(names, count, step_seconds)).result()

    async def _keep_history(self, names: Sequence[str], count: int, step_seconds: int) -> None:
        records = await open_records(self.stack.database_url, timeout_seconds=30)
        try:
            now = floor_to(datetime.now(UTC), step_seconds)
            for number in range(count):
                at = now - (count - number) * timedelta(seconds=step_seconds)
                await records.save_interval(step_seconds, at, [build_sample(name, at, number) for name in names])
        finally:
            await records.close()

    def decide(self, queue: str, replicas: int, reason: str, **terms: float) -> None:
        """Report a decision as the operator does."""
        report = {
            "at": time.time(),
            "replicas": replicas,
            "cause": "load",
            "reason": reason,
            "acting": True,
            "terms": asdict(Terms(run_seconds=1.2, startup_seconds=1.4, need_replicas=replicas, held_replicas=replicas))
            | terms,
        }
        self.stack.valkey.command("HSET", wire.DECISIONS_KEY, queue, json.dumps(report))


def build_sample(name: str, at: datetime, number: int) -> QueueSample:
    """A wave: it rises and falls every 40 intervals, and with it what is wanted."""
    height = abs(20 - number % 40)
    desired = 1 if height > 10 else 3
    spread = number * 7 % 11  # no two intervals are alike
    return QueueSample(
        queue=name,
        at=at,
        ready=max(0, 20 - height - 6) + spread // 3,
        running=max(1.0, 2.0 * desired - spread // 4),
        oldest_wait_seconds=max(0, 20 - height - 6) * 0.25 + spread / 20,
        desired=desired,
        workers=desired if number % 40 not in (10, 11) else 1,
        arrivals_per_second=1.6 + (20 - height) * 0.11 + spread / 20,
        finished=14 + 20 - height + spread,
        failed=1 if number % 9 == 0 else 0,
        waits={14 + spread // 3: 9, 17 + (20 - height) // 3: 9, 21 + (20 - height) // 4: 2},
        reason=f"{desired} replicas: {2 * (20 - height)} waiting tasks of 1.2 s shall start within 5 s",
    )


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """What local mode runs on: Valkey and SQLite."""
    if not (STATIC / "index.html").is_file():
        pytest.skip("the console is not built: hack/console needs Node.js and npm")
    with running_stack(StackOptions("valkey", "sqlite")) as stack:
        yield Fleet(stack)


@pytest.fixture(scope="session")
def browser(fleet: Fleet) -> Iterator[Browser]:
    """Begun after the queues exist: while it runs, no event loop can be started in this thread."""
    if not Path(CHROMIUM).exists():
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, fleet: Fleet) -> Iterator[OpenPage]:
    """Opens a page of the console in a window of its own; at the end nothing may have gone wrong in it."""
    faults: list[str] = []
    contexts = []

    def watch(message: ConsoleMessage) -> None:
        # What the API refused is the test's matter; everything else is a defect, a violated policy too.
        if message.type == "error" and "Failed to load resource" not in message.text:
            faults.append(message.text)

    def check_host(request: Request) -> None:
        if urlsplit(request.url).hostname not in ("127.0.0.1", None):
            faults.append(f"asked another host: {request.url}")

    def open_window(path: str = "", base_url: str | None = None, **options: object) -> Page:
        options = {"viewport": {"width": 1360, "height": 860}, "locale": "en-GB", **options}
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(WAIT_MILLISECONDS)
        expect.set_options(timeout=WAIT_MILLISECONDS)
        page = context.new_page()
        page.on("console", watch)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", check_host)
        page.goto(f"{base_url or fleet.stack.base_url}/ui/{path}")
        return page

    yield open_window
    for context in contexts:
        context.close()
    assert faults == []
