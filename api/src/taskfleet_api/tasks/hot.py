"""The short way of a plain submission: ASGI in, ASGI out, no framework in between.

What is not plainly right (an odd body, an Origin header, a header twice) goes the ordinary way through the app, with
the body handed on; a property test holds the two ways together.
"""

import hashlib
import time
from functools import lru_cache

import msgspec
import structlog
from prometheus_client import Counter
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskfleet_api.access import ANYBODY, KeyScope, acting_as
from taskfleet_api.bodies import check_content, parse_idempotency_key, parse_wait, read_body
from taskfleet_api.keys.ring import KeyRing
from taskfleet_api.middleware import SECURITY_HEADERS
from taskfleet_api.problems import INTERNAL, PROBLEM_MEDIA_TYPE, Problem, build_problem
from taskfleet_api.tasks.answering import answer_submission, count_submission
from taskfleet_api.tasks.parsing import parse_fast
from taskfleet_api.tasks.refusals import count_refusal
from taskfleet_api.tasks.rendering import render_submitted
from taskfleet_api.tasks.service import NewSubmission, Services, SubmittedTask
from taskfleet_api.telemetry import counter, histogram, parse_traceparent
from taskfleet_core.errors import TaskfleetError, UnavailableError

__all__ = ["HotSubmissions"]

PATH = "/api/v1/tasks"
JSON = b"application/json"
Headers = dict[bytes, bytes]
RawAnswer = tuple[int, bytes, list[tuple[bytes, bytes]]]
log = structlog.get_logger()


class HotSubmissions:
    """Answers `POST /api/v1/tasks` where it can; `handles` says which requests it wants to see."""

    def __init__(self, app: ASGIApp, root_path: str, keys: KeyRing | None) -> None:
        self._app = app
        self._keys = keys
        self.services: Services | None = None
        self._paths = frozenset({PATH, root_path + PATH})
        self._location = f"{root_path}{PATH}/"
        self._seconds = histogram("taskfleet_api_request_seconds").labels("POST", PATH)

    def handles(self, scope: Scope) -> bool:
        """Whether the request may be a plain submission."""
        return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self._paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or let the app do it."""
        services = self.services
        headers: Headers = dict(scope["headers"])
        try:
            caller = ANYBODY if self._keys is None else await self._keys.identify(headers, "POST", PATH)
        except UnavailableError:
            caller = None  # the ordinary way says so
        is_odd = b"origin" in headers or len(headers) != len(scope["headers"])
        if services is None or is_odd or caller is None or not caller.may(KeyScope.SUBMIT):
            await self._app(scope, receive, send)
            return
        with acting_as(caller):
            await self._submit(services, caller.principal, headers, scope, receive, send)

    async def _submit(
        self, services: Services, principal: str, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        started = time.perf_counter()
        try:
            body = await self._read(services, headers, receive)
            submission = parse_fast(body, services.settings.max_json_depth)
            if submission is None:
                await self._app(scope, _replay(body, receive), send)
                return
            submitted = await services.submissions.submit(_complete(submission, headers, body, principal))
            self._seconds.observe(time.perf_counter() - started)
            count_submission(submitted)
            status, text, extra = await self._answer(services, submitted, headers)
        except ClientDisconnect:
            return
        except TaskfleetError as error:
            count_refusal(error)
            status, text, extra = _render_problem(build_problem(error), scope["path"])
        except Exception:
            log.exception("submission_failed")
            problem = Problem(kind=INTERNAL, detail="The submission failed inside the service.")
            status, text, extra = _render_problem(problem, scope["path"])
        _get_counter(status).inc()
        await _send(send, status, text, extra)

    async def _read(self, services: Services, headers: Headers, receive: Receive) -> bytes:
        settings = services.settings
        if headers.get(b"content-type") != JSON or b"content-encoding" in headers:
            check_content(_text(headers, b"content-type"), _text(headers, b"content-encoding"))
        declared = _text(headers, b"content-length")
        return await read_body(receive, settings.max_item_bytes, settings.body_timeout_seconds, declared)

    async def _answer(self, services: Services, submitted: SubmittedTask, headers: Headers) -> RawAnswer:
        wait = parse_wait(_text(headers, b"prefer")) if b"prefer" in headers else None
        if wait or submitted.replayed:
            status, text, named = await answer_submission(services, submitted, wait)
            extra = [(name.lower().encode(), value.encode()) for name, value in named.items()]
            return status, text, [(b"content-type", JSON), *extra]
        location = f"{self._location}{submitted.id}".encode()
        return 202, render_submitted(submitted), [(b"content-type", JSON), (b"location", location)]


@lru_cache(maxsize=64)
def _get_counter(status: int) -> Counter:
    return counter("taskfleet_api_requests_total").labels("POST", PATH, str(status))


def _complete(submission: NewSubmission, headers: Headers, body: bytes, principal: str) -> NewSubmission:
    """The submission with what the headers say. Raises InvalidInputError."""
    if b"idempotency-key" not in headers and b"traceparent" not in headers and principal == submission.principal:
        return submission
    key = parse_idempotency_key(_text(headers, b"idempotency-key"))
    return msgspec.structs.replace(
        submission,
        principal=principal,
        idempotency_key=key,
        body_hash=hashlib.sha256(body).digest() if key else None,
        traceparent=parse_traceparent(_text(headers, b"traceparent")),
    )


def _text(headers: Headers, name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _render_problem(problem: Problem, path: str) -> RawAnswer:
    extra = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    text = msgspec.json.encode(problem.build_document(path))
    return problem.kind.status, text, [(b"content-type", PROBLEM_MEDIA_TYPE.encode()), *extra]


async def _send(send: Send, status: int, text: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers += (b"content-length", str(len(text)).encode()), *SECURITY_HEADERS
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def _replay(body: bytes, receive: Receive) -> Receive:
    """A receive that hands out the body that was read already, then goes on."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay
