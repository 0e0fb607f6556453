"""Frames written by hand are those that pamqp reads and would have written."""

import uuid
from typing import Any

import pytest
from amqp.serialization import loads
from hypothesis import given
from hypothesis import strategies as st
from pamqp import frame

from taskfleet_api.brokers import Message, build_message
from taskfleet_api.brokers.amqp_frames import _marshal_table, marshal_message
from taskfleet_core.amqp import split_frames

HEADER_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.text(max_size=300)
    | st.floats(allow_nan=False)
    | st.lists(st.none() | st.integers(0, 10) | st.floats(0, 10), max_size=3)
    | st.dictionaries(st.text(min_size=1, max_size=10), st.integers(0, 10), max_size=3)
)


def unmarshal(data: bytes) -> list[Any]:
    frames = []
    while data:
        consumed, channel, value = frame.unmarshal(data)
        assert channel == 1
        frames.append(value)
        data = data[consumed:]
    return frames


@given(
    headers=st.dictionaries(st.text(min_size=1, max_size=20), HEADER_VALUES, max_size=8),
    body=st.binary(max_size=200),
    priority=st.none() | st.integers(0, 9),
    expiration_seconds=st.none() | st.floats(-1, 1e6),
)
def test_pamqp_reads_what_was_meant(
    headers: dict[str, Any], body: bytes, priority: int | None, expiration_seconds: float | None
) -> None:
    task_id = str(uuid.uuid4())
    message = Message(task_id, "a queue", body, headers, priority, expiration_seconds)
    publish, header, *bodies = unmarshal(marshal_message(message, 131072))
    assert (publish.exchange, publish.routing_key, publish.mandatory) == ("", "a queue", True)
    properties = header.properties
    assert dict(properties.headers or {}) == headers
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert (properties.message_id, properties.correlation_id) == (task_id, task_id)
    assert (properties.delivery_mode, properties.priority) == (2, priority or 0)
    expected = None if expiration_seconds is None else str(max(0, int(expiration_seconds * 1000)))
    assert properties.expiration == expected
    assert header.body_size == len(body)
    assert b"".join(part.value for part in bodies) == body


@given(headers=st.dictionaries(st.text(min_size=1, max_size=20), HEADER_VALUES, max_size=8))
def test_workers_read_the_headers_that_were_meant(headers: dict[str, Any]) -> None:
    """Celery workers read with py-amqp, also with versions that take the letter `s` for a string."""
    table = _marshal_table(headers)
    assert loads("F", table, 0)[0][0] == headers


def test_small_integers_are_written_as_py_amqp_does() -> None:
    table = _marshal_table({"a": 300, "b": {"c": [2, None]}})
    assert b"aI\x00\x00\x01\x2c" in table
    assert b"I\x00\x00\x00\x02V" in table


def test_true_and_one_stay_apart() -> None:
    message = Message("i", "q", b"", {"a": True, "b": 1, "c": False, "d": 0})
    again = Message("i", "q", b"", {"a": 1, "b": True, "c": 0, "d": False})
    for sent in (message, again):
        headers = unmarshal(marshal_message(sent, 131072))[1].properties.headers
        assert {key: type(value) for key, value in headers.items()} == {
            key: type(value) for key, value in sent.headers.items()
        }


def test_large_bodies_are_cut_into_frames() -> None:
    message = build_message(task_id="i", queue="q", task="t", args_json='["' + "x" * 10_000 + '"]')
    frames = unmarshal(marshal_message(message, 4096))
    assert [len(part.value) for part in frames[2:-1]] == [4088, 4088]
    assert b"".join(part.value for part in frames[2:]) == message.body


@pytest.mark.parametrize("queue", ["q" * 256, "ü" * 128])
def test_names_that_amqp_cannot_carry_are_refused(queue: str) -> None:
    with pytest.raises(ValueError, match="255"):
        marshal_message(Message("i", queue, b"", {}), 131072)


@given(st.lists(st.binary(max_size=30), max_size=5), st.integers(1, 7))
def test_frames_are_found_however_the_bytes_arrive(payloads: list[bytes], step: int) -> None:
    stream = b"".join(b"\x01\x00\x01" + len(one).to_bytes(4, "big") + one + b"\xce" for one in payloads)
    found, rest = [], b""
    for at in range(0, len(stream), step):
        frames, rest = split_frames(rest + stream[at : at + step])
        found += frames
    assert [payload for _, payload in found] == payloads
    assert rest == b""


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x00\x09\x01", b"\x01\x00\x01\0\0\0\x01aX"]
)
def test_what_is_no_amqp_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"AMQP|end mark"):
        split_frames(data)
