"""Reading request bodies within bounds of size and time, and the headers that go with them."""

import asyncio
import re

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from taskfleet_api.problems import BodyTimeoutError, PayloadTooLargeError, UnsupportedMediaTypeError
from taskfleet_core.errors import FieldError, InvalidInputError

__all__ = ["check_content", "parse_idempotency_key", "parse_wait", "read_body"]

JSON_TYPES = frozenset({"application/json"})
NDJSON_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,6}(?:\.\d{1,3})?)"?\s*(?=$|[,;])', re.IGNORECASE)
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


async def read_body(
    receive: Receive, limit_bytes: int, timeout_seconds: float, declared_bytes: str | None = None
) -> bytes:
    """The whole body. Raises PayloadTooLargeError, as early as it is known, BodyTimeoutError and ClientDisconnect."""
    if declared_bytes is not None and declared_bytes.isdigit() and int(declared_bytes[:20]) > limit_bytes:
        raise _build_too_large(limit_bytes)
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _receive_all(receive, limit_bytes)
    except TimeoutError as error:
        raise BodyTimeoutError(f"The body did not arrive within {timeout_seconds:g} s.") from error


async def _receive_all(receive: Receive, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > limit_bytes:
            raise _build_too_large(limit_bytes)
        if part:
            parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _build_too_large(limit_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"The body may have at most {limit_bytes} bytes.")


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
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if _KEY.fullmatch(value) is None:
        detail = "Idempotency-Key must be 1 to 255 printable ASCII characters without spaces."
        raise InvalidInputError(detail, (FieldError("#/header/Idempotency-Key", detail),))
    return value
