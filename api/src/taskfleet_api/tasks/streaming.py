"""Server-sent events of one task: its states and progress as they happen."""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from uuid import UUID

import msgspec

from taskfleet_api.access import is_still_allowed
from taskfleet_api.records import TaskRecord
from taskfleet_api.tasks.admission import OpenStreams
from taskfleet_api.tasks.reading import Tasks
from taskfleet_api.tasks.rendering import raw, render_moment
from taskfleet_core.errors import NotFoundError

__all__ = [
    "COMMENT",
    "HEARTBEAT_SECONDS",
    "OPENING",
    "EventCursor",
    "parse_event_id",
    "render_sse_event",
    "stream_changes",
    "stream_events",
    "stream_while_allowed",
]

HEARTBEAT_SECONDS = 14.5  # a little under the pause after which a quiet task is read again
OPENING = b"retry: 1000\n\n"  # milliseconds until a reader whose stream was cut opens it again
COMMENT = b": keep\n\n"
_encode = msgspec.json.Encoder().encode


class EventCursor(msgspec.Struct, frozen=True):
    """How far a reader has come: written as `<attempt>-<position>-<progress count>`."""

    attempt: int = 0
    position: int = -1
    progress_count: int = 0

    def __str__(self) -> str:
        return f"{self.attempt}-{self.position}-{self.progress_count}"


def parse_event_id(text: str | None) -> EventCursor:
    """Where a `Last-Event-ID` points to; anything else is the beginning."""
    parts = (text or "").split("-")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        return EventCursor()
    return EventCursor(*(int(part) for part in parts))


class _Silence:
    """How long a reader has heard nothing: proxies cut streams that are silent for long."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def break_with(self, text: bytes) -> bytes:
        """What to send now: the text, in its place a comment once the silence was long, or nothing."""
        now = time.monotonic()
        if not text and now - self._since >= HEARTBEAT_SECONDS:
            text = COMMENT
        if text:
            self._since = now
        return text


async def stream_events(
    tasks: Tasks, streams: OpenStreams, task_id: UUID, since: EventCursor, *, follow: bool
) -> AsyncGenerator[bytes]:
    """The text of the stream; ends after a final state unless `follow` asks for later attempts too.

    Run it in one task from beginning to end. Raises OverloadedError and NotFoundError before the first text.
    """
    async with streams.slot("events"), aclosing(tasks.follow(task_id)) as records:
        yield OPENING
        silence = _Silence()
        async for record in records:
            text, since = render_changes(record, since)
            if text := silence.break_with(text):
                yield text
            if record.state.is_final and not follow:
                return


async def stream_changes(tasks: Tasks, streams: OpenStreams, ids: Sequence[UUID]) -> AsyncGenerator[bytes]:
    """What several tasks are now and become, as text that does not end. Raises as `stream_events` does."""
    async with streams.slot("events"), aclosing(tasks.follow_many(ids)) as changes:
        yield OPENING
        silence = _Silence()
        async for records in changes:
            if text := silence.break_with(b"".join(render_changes(record, EventCursor())[0] for record in records)):
                yield text


async def stream_while_allowed(text: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """The stream until it ends, or its caller would no longer be let in, or what is followed is gone."""
    with contextlib.suppress(NotFoundError):
        async with aclosing(text) as parts:
            async for part in parts:
                if not await is_still_allowed():
                    return
                yield part


def render_changes(record: TaskRecord, since: EventCursor) -> tuple[bytes, EventCursor]:
    """What a reader at `since` has not seen, as event-stream text, and where it then is. Pure."""
    text = b""
    progress_count = record.progress_count or 0
    seen_progress = since.progress_count if since.attempt == record.attempt else 0
    if record.progress is not None and progress_count > seen_progress:
        seen_progress = progress_count
        cursor = EventCursor(record.attempt, max(since.position, 0), progress_count)
        text += _render_event("progress", cursor, record, progress=raw(record.progress), progress_count=progress_count)
    if record.position > since.position:
        cursor = EventCursor(record.attempt, record.position, seen_progress)
        text += _render_event(
            "state",
            cursor,
            record,
            worker=record.worker,
            started_at=render_moment(record.started_at),
            finished_at=render_moment(record.finished_at),
            result=raw(record.result),
            error=raw(record.error),
            runtime_seconds=record.runtime_seconds,
        )
    return text, EventCursor(record.attempt, max(record.position, since.position), seen_progress)


def _render_event(kind: str, cursor: EventCursor, record: TaskRecord, **members: object) -> bytes:
    document = {
        "kind": kind,
        "id": str(record.id),
        "queue": record.queue,
        "task": record.task,
        "state": record.state.value,
        "attempt": record.attempt,
        "retries": record.retries,
        "at": record.updated_at.timestamp(),
        **members,
    }
    return render_sse_event(kind, str(cursor), _encode(document))


def render_sse_event(kind: str, identity: str, data: bytes) -> bytes:
    """One event with JSON as its data. Pure."""
    # A line break would end the field; in JSON it is only ever white space.
    data = data.replace(b"\n", b" ").replace(b"\r", b" ")
    return f"event: {kind}\nid: {identity}\ndata: ".encode() + data + b"\n\n"
