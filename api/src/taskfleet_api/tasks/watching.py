"""Listings that are followed: one reader for each, however many follow it, tells what changed at its top.

The database is asked once a second for each different listing that somebody looks at, not once for each reader.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import msgspec
import structlog

from taskfleet_api.access import get_caller
from taskfleet_api.records import Page, TaskFilter, TaskRecord
from taskfleet_api.tasks.admission import OpenStreams
from taskfleet_api.tasks.model import ANONYMOUS
from taskfleet_api.tasks.reading import Tasks
from taskfleet_api.tasks.rendering import render_page, task_document
from taskfleet_api.tasks.streaming import COMMENT, HEARTBEAT_SECONDS, OPENING, render_sse_event
from taskfleet_core.errors import OverloadedError, UnavailableError

__all__ = ["HEAD_ROWS", "Follower", "Listings", "stream_listing"]

log = structlog.get_logger()

HEAD_ROWS = 100
LOOK_SECONDS = 1.0
MAX_LISTINGS = 200
MAX_WAITING_EVENTS = 16
# After that a stream ends and is opened again: who may see what is asked anew.
STREAM_SECONDS = 600.0
RETRY_SECONDS = 5

_encode = msgspec.json.Encoder().encode


class Follower:
    """One reader of a listing. It holds a few events that it did not take yet; with more it is let go."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_WAITING_EVENTS + 1)
        self.is_over = False

    def push(self, event: bytes) -> None:
        """Give it an event. A reader that does not keep up ends: it opens the stream again and gets the whole page."""
        if self._events.qsize() >= MAX_WAITING_EVENTS:
            self.end()
        elif not self.is_over:
            self._events.put_nowait(event)

    def end(self) -> None:
        """Nothing more comes: what waits is still taken."""
        if not self.is_over:
            self.is_over = True
            self._events.put_nowait(None)

    async def next(self, seconds: float) -> bytes | None:
        """The next event, a comment when none comes in time, None at the end."""
        try:
            async with asyncio.timeout(seconds):
                return await self._events.get()
        except TimeoutError:
            return COMMENT


class _Listing:
    """The newest tasks of one listing as of the last look, and who follows them."""

    def __init__(self, tasks: Tasks, wanted: TaskFilter) -> None:
        self._tasks = tasks
        self._wanted = wanted
        self._page: Page | None = None
        self._page_event = b""
        self._version = ""
        self.followers: set[Follower] = set()
        self.is_over = False

    def join(self, follower: Follower, last_event_id: str | None) -> None:
        """Begin with the page as it is, unless the reader has it."""
        self.followers.add(follower)
        if self._page is not None and last_event_id != self._version:
            follower.push(self._page_event)

    async def run(self) -> None:
        """Look once a second until nobody follows. Ends every follower when the records cannot be read."""
        try:
            while self.followers:
                self._tell(await self._tasks.list_restricted(self._wanted, None, HEAD_ROWS))
                await asyncio.sleep(LOOK_SECONDS)
                self.followers -= {follower for follower in self.followers if follower.is_over}
        except UnavailableError as error:
            log.info("listing_lost", error=str(error))
        finally:
            self.is_over = True
            for follower in self.followers:
                follower.end()

    def _tell(self, page: Page) -> None:
        before, self._page = self._page, page
        changed = find_changes(before, page)
        if before is not None and not changed and len(before.items) == len(page.items):
            return
        text = render_page(page)
        self._version = hashlib.sha256(text).hexdigest()[:16]
        self._page_event = render_sse_event("page", self._version, text)
        # Nothing of the last look is left: rows in between are not known, so the whole page is told.
        is_gap = before is None or len(changed) == len(page.items)
        event = self._page_event
        if not is_gap:
            documents = {"items": [task_document(record) for record in changed]}
            event = render_sse_event("tasks", self._version, _encode(documents))
        for follower in self.followers:
            follower.push(event)


def find_changes(before: Page | None, page: Page) -> Sequence[TaskRecord]:
    """The tasks of the page that are new or other than they were. Pure."""
    known = {record.id: record for record in before.items} if before is not None else {}
    return [record for record in page.items if known.get(record.id) != record]


class Listings:
    """The listings that are followed now."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._listings: dict[TaskFilter, _Listing] = {}
        self._readers: dict[TaskFilter, asyncio.Task[None]] = {}
        self._openers: dict[TaskFilter, str] = {}

    @property
    def count(self) -> int:
        """Different listings that are followed."""
        return len(self._listings)

    @contextlib.asynccontextmanager
    async def follow(self, wanted: TaskFilter, last_event_id: str | None = None) -> AsyncIterator[Follower]:
        """Follow the top of a listing as the caller sees it. Raises OverloadedError."""
        wanted = await self._tasks.restrict(wanted)
        listing = self._listings.get(wanted)
        follower = Follower()
        if listing is None or listing.is_over:
            self.check_room()
            listing = self._listings[wanted] = _Listing(self._tasks, wanted)
            listing.followers.add(follower)
            self._openers[wanted] = get_caller().principal
            reader = self._readers[wanted] = asyncio.create_task(listing.run(), name="listing")
            reader.add_done_callback(lambda _: self._forget(wanted, listing))
        else:
            listing.join(follower, last_event_id)
        try:
            yield follower
        finally:
            listing.followers.discard(follower)
            if not listing.followers and self._listings.get(wanted) is listing:
                self._readers[wanted].cancel()
                self._forget(wanted, listing)

    def check_room(self) -> None:
        """Raises OverloadedError when as many listings are followed as may be, or the caller opened half of them."""
        if len(self._listings) >= MAX_LISTINGS:
            raise OverloadedError(f"{MAX_LISTINGS} different listings are followed already.", RETRY_SECONDS)
        principal = get_caller().principal
        if principal != ANONYMOUS and sum(opener == principal for opener in self._openers.values()) >= MAX_LISTINGS / 2:
            raise OverloadedError("You follow half of all different listings already.", RETRY_SECONDS)

    def _forget(self, wanted: TaskFilter, listing: _Listing) -> None:
        if self._listings.get(wanted) is listing:
            del self._listings[wanted]
            del self._readers[wanted], self._openers[wanted]


async def stream_listing(
    listings: Listings, streams: OpenStreams, wanted: TaskFilter, last_event_id: str | None
) -> AsyncGenerator[bytes]:
    """The text of the stream: the page, then what changes at its top, for ten minutes at most.

    Run it in one task from beginning to end. Raises OverloadedError before the first text.
    """
    async with streams.slot("events", STREAM_SECONDS), listings.follow(wanted, last_event_id) as follower:
        yield OPENING
        while (event := await follower.next(HEARTBEAT_SECONDS)) is not None:
            yield event
