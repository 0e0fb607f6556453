"""Reading request bodies within bounds of size and time, and the headers that go with them."""

import asyncio
import contextlib
import re

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from taskfleet_api.problems import BodyTimeoutError, PayloadTooLargeError, UnsupportedMediaTypeError
from taskfleet_core.errors import FieldError, InvalidInputError

__all__ = ["IncomingBody", "check_content", "has_body", "parse_idempotency_key", "parse_wait", "read_body"]

JSON_TYPES = frozenset({"application/json"})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
DISCARD_BYTES = 64 * 1024 * 1024
DISCARD_SECONDS = 5.0
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,6}(?:\.\d{1,3})?)"?\s*(?=$|[,;])', re.IGNORECASE)
KEY_MAX = 240  # a batch appends the number of the item
KEY_PATTERN = rf"^[!-~]{{1,{KEY_MAX}}}$"
_KEY = re.compile(KEY_PATTERN)


async def read_body(
    receive: Receive, limit_bytes: int, timeout_seconds: float, declared_bytes: str | None = None
) -> bytes:
    """The whole body. Raises PayloadTooLargeError, BodyTimeoutError and ClientDisconnect.

    A body that is too large is thrown away as it comes in, within bounds: a client that is cut off while it sends
    would never see the answer.
    """
    too_large = declared_bytes is not None and declared_bytes.isdigit() and int(declared_bytes[:20]) > limit_bytes
    with _Alarm(timeout_seconds):
        body = None if too_large else await _receive_all(receive, limit_bytes)
        if body is None:
            await _discard(receive)
            raise PayloadTooLargeError(f"The body may have at most {limit_bytes} bytes: pass large data by reference.")
        return body


class _Alarm:
    """`asyncio.timeout` for the hot path, where that would cost as much as reading the body (5 us against 1)."""

    __slots__ = ("_handle", "_rang", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._rang = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._handle = loop.call_later(self._seconds, self._ring)

    def _ring(self) -> None:
        self._rang = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._handle.cancel()
        if self._rang and kind is asyncio.CancelledError and self._task is not None and self._task.uncancel() == 0:
            raise BodyTimeoutError(f"The body did not arrive within {self._seconds:g} s.") from error


async def _receive_all(receive: Receive, limit_bytes: int) -> bytes | None:
    """The body, or None as soon as it is too large and more is to come."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


class IncomingBody:
    """A request's `receive` that knows what of the body was never read."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0
        self._ended = False

    async def receive(self) -> Message:
        """The next message."""
        message = await self._receive()
        self._size += len(message.get("body", b""))
        self._ended = self._ended or message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def discard_rest(self) -> None:
        """Throw the rest away, within bounds: the server closes a connection whose request was not read, and the
        client's next request on it would fail.
        """
        if not self._ended:
            await _discard(self.receive, DISCARD_BYTES - self._size)


def has_body(scope: Scope) -> bool:
    """Whether the request announces a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


async def _discard(receive: Receive, most_bytes: int = DISCARD_BYTES) -> None:
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while size < most_bytes:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def check_content(content_type: str | None, encoding: str | None, accepted: frozenset[str] = JSON_TYPES) -> str:
    """The media type of the body, in lower case. Raises UnsupportedMediaTypeError."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type.startswith("application/") and media_type.endswith("+json"):
        media_type = "application/json"
    if media_type not in accepted:
        wanted = " or ".join(sorted(accepted))
        raise UnsupportedMediaTypeError(f"Send the body as {wanted}, not as {media_type[:80] or 'nothing'!r}.")
    if encoding not in (None, "", "identity"):
        raise UnsupportedMediaTypeError("Send the body without Content-Encoding.")
    return media_type


def parse_wait(prefer: str | None) -> float | None:
    """The seconds of `Prefer: wait=N`; None without one. A preference that is not understood is ignored (RFC 7240)."""
    found = _WAIT.search(prefer) if prefer else None
    return float(found.group(1)) if found else None


def parse_idempotency_key(value: str | None) -> str | None:
    """The key, also when it is written as a quoted string. Raises InvalidInputError."""
    if value is None:
        return None
    if len(value) > 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if _KEY.fullmatch(value) is None:
        detail = "Idempotency-Key must be 1 to 240 printable ASCII characters without spaces."
        raise InvalidInputError(detail, (FieldError("#/header/Idempotency-Key", detail),))
    return value
