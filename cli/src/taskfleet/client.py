"""The synchronous client. Generated from async_client.py by hack/generate_sync_client.py: do not edit."""

import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from taskfleet.errors import TaskfleetError, UnavailableError, WaitTimeoutError, build_error
from taskfleet.keys import check_key
from taskfleet.models import (
    ApiKey,
    Event,
    Queue,
    QueueHistory,
    Retry,
    Schedule,
    Submission,
    Task,
    TaskSignature,
    format_time,
)
from taskfleet.sse import SseMessage, SseParser
from taskfleet_core.states import TaskState

__all__ = ["Client"]

DEFAULT_URL = "http://127.0.0.1:8000"
ENV_URL = "TASKFLEET_URL"
ENV_API_KEY = "TASKFLEET_API_KEY"
PREFIX = "/api/v1"
BATCH_ITEMS = 1000  # in one request of submit_many
RETRY_STATUSES = frozenset({502, 503, 504})
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
STREAM_SILENCE_SECONDS = 45.0  # the API sends a comment every 15 s


class Client:
    """Talks to one Taskfleet API over HTTP. Use it as a context manager, or call close().

    Lost connections and 503 answers are tried again up to `retries` times; submissions carry an idempotency key, so
    that trying again never submits twice.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_seconds: float = 30.0,
        retries: int = 5,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`url` defaults to TASKFLEET_URL, then to the local mode's http://127.0.0.1:8000; `api_key` to
        TASKFLEET_API_KEY, then to none. An Authorization header in `headers` goes before the key.

        Raises InvalidInputError for a key that cannot be sent.
        """
        self.url = (url or os.environ.get(ENV_URL) or DEFAULT_URL).rstrip("/")
        self._retries = retries
        self._timeout_seconds = timeout_seconds
        sent = httpx.Headers(headers)
        if key := check_key(api_key or os.environ.get(ENV_API_KEY)):
            sent.setdefault("Authorization", f"Bearer {key}")
        self._http = httpx.Client(
            base_url=self.url,
            timeout=timeout_seconds,
            headers=sent,
            transport=transport,
            trust_env=transport is None,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- submitting ---------------------------------------------------------------------------------------------

    def submit(
        self,
        queue: str,
        task: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        priority: int | None = None,
        eta: datetime | None = None,
        countdown_seconds: float | None = None,
        expires_at: datetime | None = None,
        ttl_seconds: float | None = None,
        retry: Retry | None = None,
        timeout_seconds: float | None = None,
        callback_url: str | None = None,
        idempotency_key: str | None = None,
        wait_seconds: float | None = None,
    ) -> Task:
        """Submit one task; its record is committed when this returns. With `wait_seconds` (up to 60) the answer is
        the finished task if it finishes in time."""
        submission = Submission(
            queue,
            task,
            args,
            kwargs or {},
            metadata=metadata,
            priority=priority,
            eta=eta,
            countdown_seconds=countdown_seconds,
            expires_at=expires_at,
            ttl_seconds=ttl_seconds,
            retry=retry,
            timeout_seconds=timeout_seconds,
            callback_url=callback_url,
        )
        return self.submit_item(submission, idempotency_key=idempotency_key, wait_seconds=wait_seconds)

    def submit_item(
        self, submission: Submission, *, idempotency_key: str | None = None, wait_seconds: float | None = None
    ) -> Task:
        """The same for a Submission."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        if wait_seconds is not None:
            headers["Prefer"] = f"wait={wait_seconds:g}"
        answer = self._call(
            "POST", "/tasks", body=submission.build_document(), headers=headers, extra_seconds=wait_seconds or 0.0
        )
        return Task.model_validate(answer)

    def submit_many(
        self,
        submissions: Iterable[Submission | Mapping[str, Any]],
        *,
        atomic: bool = False,
        batch_items: int = BATCH_ITEMS,
        callback_url: str | None = None,
    ) -> Sequence[Task | TaskfleetError]:
        """Submit many, in requests of `batch_items`; an item that was refused is an error in its place.

        `atomic`: all or nothing, in one request (10,000 items at most by default); a refusal raises.
        `callback_url`: of the items that name none.
        """
        documents = [
            submission.build_document() if isinstance(submission, Submission) else dict(submission)
            for submission in submissions
        ]
        step = max(1, len(documents)) if atomic else batch_items
        outcomes = []
        for start in range(0, len(documents), step):
            answer = self._call(
                "POST",
                "/tasks:batch",
                body=documents[start : start + step],
                params={"atomic": "true" if atomic else None, "callback_url": callback_url},
                headers={"Idempotency-Key": str(uuid.uuid4())},
                accepts_items=not atomic,
            )
            outcomes += [_read_item(item) for item in answer["items"]]
        return outcomes

    # --- reading ------------------------------------------------------------------------------------------------

    def get(self, task_id: str) -> Task:
        """A task with all that is known of it."""
        return Task.model_validate(self._call("GET", f"/tasks/{_quote(task_id)}"))

    def wait(self, task_id: str, timeout_seconds: float | None = None) -> Task:
        """The task once it is final, however it ended. Raises WaitTimeoutError."""
        for _event in self.watch(task_id, timeout_seconds=timeout_seconds):
            pass
        return self.get(task_id)

    def watch(self, task_id: str, *, last_event_id: str = "", timeout_seconds: float | None = None) -> Iterator[Event]:
        """The task's states and progress as they happen, until it is final.

        A cut stream is resumed where it stopped. Raises NotFoundError, and WaitTimeoutError after `timeout_seconds`.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        failures = 0
        while True:
            try:
                for message in self._stream(f"/tasks/{_quote(task_id)}/events", last_event_id, deadline):
                    failures = 0
                    last_event_id = message.id
                    event = _read_event(message)
                    yield event
                    if event.is_final:
                        return
            except httpx.TransportError as error:
                self._check_deadline(task_id, deadline, timeout_seconds)
                failures += 1
                if failures > self._retries:
                    raise UnavailableError(f"{self.url} does not answer: {_describe(error)}") from error
            except UnavailableError:
                failures += 1
                if failures > self._retries:
                    raise
            else:
                if (self.get(task_id)).is_final:
                    return  # the stream ended without telling: the record is the truth
            self._check_deadline(task_id, deadline, timeout_seconds)
            time.sleep(_pause(failures))

    def list(
        self,
        *,
        queue: str | None = None,
        states: Iterable[TaskState | str] = (),
        task: str | None = None,
        metadata: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
        page_size: int = 100,
    ) -> Iterator[Task]:
        """Tasks, newest first; pages are fetched as they are needed. `limit` bounds their number."""
        params = {
            "queue": queue,
            "state": [str(state) for state in states],
            "task": task,
            "metadata": [f"{key}={value}" for key, value in (metadata or {}).items()],
            "created_after": format_time(created_after),
            "created_before": format_time(created_before),
        }
        left, cursor = limit, None
        while left is None or left > 0:
            size = page_size if left is None else min(page_size, left)
            page = self._call("GET", "/tasks", params=params | {"limit": size, "cursor": cursor})
            for item in page["items"]:
                yield Task.model_validate(item)
            cursor = page.get("next_cursor")
            left = None if left is None else left - len(page["items"])
            if cursor is None:
                return

    # --- steering -----------------------------------------------------------------------------------------------

    def cancel(self, task_id: str, *, terminate: bool = False) -> Task:
        """Cancel a task; a running one is stopped only with `terminate`. Raises ConflictError when it is over."""
        params = {"terminate": "true"} if terminate else {}
        return Task.model_validate(self._call("DELETE", f"/tasks/{_quote(task_id)}", params=params))

    def retry(self, task_id: str) -> Task:
        """Start a new attempt of a task that ended badly. Raises ConflictError when it did not."""
        return Task.model_validate(self._call("POST", f"/tasks/{_quote(task_id)}:retry"))

    # --- queues and schedules -----------------------------------------------------------------------------------

    def queues(self) -> Sequence[Queue]:
        """All queues with their figures."""
        answer = self._call("GET", "/queues")
        return [Queue.model_validate(item) for item in answer["items"]]

    def queue(self, name: str) -> Queue:
        """One queue with its figures."""
        return Queue.model_validate(self._call("GET", f"/queues/{_quote(name)}"))

    def queue_tasks(self, name: str) -> Sequence[TaskSignature]:
        """The task names that the queue's workers have announced."""
        answer = self._call("GET", f"/queues/{_quote(name)}/tasks")
        return [TaskSignature.model_validate(item) for item in answer["items"]]

    def queue_scaling(self, name: str) -> dict[str, Any]:
        """Why a queue has as many workers as it has: the last decision with its terms, and its steps in sentences."""
        return dict(self._call("GET", f"/queues/{_quote(name)}/scaling"))

    def queue_history(
        self,
        name: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        step_seconds: int | None = None,
    ) -> QueueHistory:
        """How a queue stood, by default in the last hour. Intervals of 10 s are kept an hour, of 60 s six hours, of
        600 s as long as the API is told; without `step_seconds` it takes the shortest that fit."""
        params = {"since": format_time(since), "until": format_time(until), "step_seconds": step_seconds}
        return QueueHistory.model_validate(self._call("GET", f"/queues/{_quote(name)}/history", params=params))

    def redrive(self, name: str) -> dict[str, Any]:
        """Start a new attempt of every dead task of a queue."""
        return dict(self._call("POST", f"/queues/{_quote(name)}/dead:redrive"))

    def purge(self, name: str) -> dict[str, Any]:
        """Delete the dead tasks of a queue."""
        return dict(self._call("POST", f"/queues/{_quote(name)}/dead:purge"))

    def schedules(self) -> Sequence[Schedule]:
        """All periodic tasks."""
        found: Sequence[Schedule] = ()
        after: str | None = None
        while True:
            page = self._call("GET", "/schedules", params={"after": after, "limit": 500})
            found = [*found, *(Schedule.model_validate(item) for item in page["items"])]
            after = page.get("next_after")
            if after is None:
                return found

    def put_schedule(self, schedule_id: str, document: Mapping[str, Any]) -> Schedule:
        """Create or replace a periodic task."""
        answer = self._call("PUT", f"/schedules/{_quote(schedule_id)}", body=dict(document))
        return Schedule.model_validate(answer)

    def delete_schedule(self, schedule_id: str) -> None:
        """Remove a periodic task; what it already submitted stays."""
        self._call("DELETE", f"/schedules/{_quote(schedule_id)}")

    # --- keys ---------------------------------------------------------------------------------------------------

    def keys(self) -> Sequence[ApiKey]:
        """All API keys, without their secrets."""
        answer = self._call("GET", "/keys")
        return [ApiKey.model_validate(item) for item in answer["items"]]

    def create_key(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        queues: Sequence[str] | None = None,
        expires_at: datetime | None = None,
    ) -> ApiKey:
        """Make a key: `key` of the answer is the secret, which cannot be read again. Raises ConflictError for a name
        that is taken, also when the answer to a first try got lost: revoke it then."""
        body = {"name": name, "scopes": list(scopes), "queues": queues and list(queues)}
        answer = self._call("POST", "/keys", body=body | {"expires_at": format_time(expires_at)})
        return ApiKey.model_validate(answer)

    def revoke_key(self, name: str) -> None:
        """Make a key worthless, within five seconds everywhere."""
        self._call("DELETE", f"/keys/{_quote(name)}")

    # --- HTTP ---------------------------------------------------------------------------------------------------

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        extra_seconds: float = 0.0,
        accepts_items: bool = False,
    ) -> Any:
        """One call, tried again while the API is away: every call is idempotent, submissions by their key."""
        failures = 0
        while True:
            try:
                response = self._http.request(
                    method,
                    PREFIX + path,
                    json=body,
                    params={name: value for name, value in (params or {}).items() if value not in (None, [])},
                    headers=dict(headers or {}),
                    timeout=self._timeout_seconds + extra_seconds,
                )
            except httpx.TransportError as error:
                if failures >= self._retries:
                    raise UnavailableError(f"{self.url} does not answer: {_describe(error)}") from error
            else:
                if response.is_success:
                    return _decode(response)
                if response.status_code not in RETRY_STATUSES or failures >= self._retries:
                    document = _decode(response)
                    if accepts_items and isinstance(document, dict) and "items" in document:
                        return document  # a batch of which every item was refused
                    raise build_error(response.status_code, document, response.headers)
            time.sleep(_pause(failures))
            failures += 1

    def _stream(self, path: str, last_event_id: str, deadline: float | None) -> Iterator[SseMessage]:
        """The messages of one connection. Ends when the server ends it."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        left = STREAM_SILENCE_SECONDS
        if deadline is not None:
            left = min(left, max(0.05, deadline - time.monotonic()))
        timeout = httpx.Timeout(self._timeout_seconds, read=left)
        parser = SseParser(last_event_id)
        with self._http.stream("GET", PREFIX + path, headers=headers, timeout=timeout) as response:
            if not response.is_success:
                response.read()
                raise build_error(response.status_code, _decode(response), response.headers)
            for line in response.iter_lines():
                message = parser.feed(line)
                if message is not None:
                    yield message
                if deadline is not None and time.monotonic() > deadline:
                    return

    @staticmethod
    def _check_deadline(task_id: str, deadline: float | None, timeout_seconds: float | None) -> None:
        if deadline is not None and timeout_seconds is not None and time.monotonic() >= deadline:
            raise WaitTimeoutError(task_id, timeout_seconds)


def _quote(name: str) -> str:
    return quote(name, safe="")


def _pause(failures: int) -> float:
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**failures)


def _describe(error: Exception) -> str:
    return str(error) or type(error).__name__


def _decode(response: httpx.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        return None


def _read_item(item: Mapping[str, Any]) -> Task | TaskfleetError:
    """One item of a batch answer: a task, or the problem that it met."""
    problem = item.get("problem")
    if problem:
        return build_error(int(item["status"]), problem, {})
    return Task.model_validate({name: value for name, value in item.items() if name not in ("status", "problem")})


def _read_event(message: SseMessage) -> Event:
    return Event.model_validate({"kind": message.event, **json.loads(message.data), "event_id": message.id})
