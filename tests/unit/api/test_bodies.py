"""Bodies and headers within their bounds."""

import asyncio
from typing import Any

import pytest

from taskfleet_api.bodies import check_content, parse_idempotency_key, parse_wait, read_body
from taskfleet_api.problems import BodyTimeoutError, PayloadTooLargeError, UnsupportedMediaTypeError
from taskfleet_api.telemetry import parse_traceparent
from taskfleet_core.errors import InvalidInputError


def receive_from(*parts: bytes) -> Any:
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]

    async def receive() -> Any:
        return messages.pop(0)

    return receive


async def test_parts_are_put_together() -> None:
    assert await read_body(receive_from(b"ab", b"", b"c"), 3, 1) == b"abc"


async def test_too_much_is_refused_whatever_was_declared() -> None:
    for declared in (None, "2", "nonsense"):
        with pytest.raises(PayloadTooLargeError):
            await read_body(receive_from(b"ab", b"cd", b"ef"), 3, 1, declared)


async def test_a_declared_excess_is_refused_before_it_is_read() -> None:
    with pytest.raises(PayloadTooLargeError):
        await read_body(receive_from(b""), 3, 1, "9" * 5000)


async def test_a_body_that_does_not_come_is_given_up() -> None:
    with pytest.raises(BodyTimeoutError):
        await read_body(asyncio.Event().wait, 3, 0.01)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("wait=10", 10),
        ("respond-async, wait=5", 5),
        ("respond-async; wait=5", 5),
        ("Wait = 2.5", 2.5),
        ('wait="3"', 3),
        ("wait=-1", None),
        ("wait=1x", None),
        ("wait", None),
        ("await=3", None),
        ("", None),
        (None, None),
    ],
)
def test_wait_preferences(value: str | None, seconds: float | None) -> None:
    assert parse_wait(value) == seconds


@pytest.mark.parametrize("value", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"])
def test_json_types_are_read(value: str) -> None:
    assert check_content(value, None) == "application/json"


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [(None, None), ("text/plain", None), ("application/x-www-form-urlencoded", None), ("application/json", "gzip")],
)
def test_other_types_are_not(content_type: str | None, encoding: str | None) -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        check_content(content_type, encoding)


@pytest.mark.parametrize(("value", "key"), [("abc", "abc"), ('"abc"', "abc"), ('""', '""'), (None, None)])
def test_idempotency_keys(value: str | None, key: str | None) -> None:
    assert parse_idempotency_key(value) == key


@pytest.mark.parametrize("value", ["", "a b", "x" * 241, "\u00e9", "a\x00"])
def test_bad_idempotency_keys_are_refused(value: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_idempotency_key(value)


GOOD_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("value", "carried"),
    [
        (GOOD_TRACE, True),
        (GOOD_TRACE.upper(), False),
        ("ff" + GOOD_TRACE[2:], False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
        (GOOD_TRACE + "-x", False),
        (None, False),
    ],
)
def test_only_valid_trace_context_is_carried(value: str | None, carried: bool) -> None:
    assert parse_traceparent(value) == (value if carried else None)
