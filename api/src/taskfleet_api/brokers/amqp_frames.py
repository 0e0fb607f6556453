"""AMQP 0-9-1 frames of the publishing hot path, as bytes. Pure; everything else is left to pamqp.

Written by hand because pamqp takes several times as long for Celery's twenty headers; tests read them with pamqp and
py-amqp.
"""

import functools
import struct
from collections.abc import Mapping
from typing import Any

from taskfleet_api.brokers.messages import LOWEST_PRIORITY, HeaderTemplate, Message
from taskfleet_core.amqp import CHANNEL, FRAME_OVERHEAD_BYTES

__all__ = ["marshal_message"]

_METHOD, _HEADER, _BODY = 1, 2, 3
_END = b"\xce"

_frame_head = struct.Struct(">BHI").pack
_long = struct.Struct(">I").pack
_int = struct.Struct(">i").pack
_long_long = struct.Struct(">q").pack
_double = struct.Struct(">d").pack
_header_head = struct.Struct(">HHQ").pack

# Property flags, in the order in which the values follow.
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _DELIVERY_MODE = 1 << 15, 1 << 14, 1 << 13, 1 << 12
_PRIORITY, _CORRELATION_ID, _EXPIRATION, _MESSAGE_ID = 1 << 11, 1 << 10, 1 << 8, 1 << 7
_ALWAYS = _CONTENT_TYPE | _CONTENT_ENCODING | _HEADERS | _DELIVERY_MODE | _PRIORITY | _CORRELATION_ID | _MESSAGE_ID
_flags = struct.Struct(">H").pack
_FLAGS = _flags(_ALWAYS)
_FLAGS_EXPIRING = _flags(_ALWAYS | _EXPIRATION)


def _short_string(text: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise ValueError("longer than 255 bytes")
    return bytes((len(data),)) + data


@functools.lru_cache(maxsize=1024)
def _publish_frame(queue: str) -> bytes:
    # Basic.Publish to the default exchange, mandatory.
    payload = struct.pack(">HHH", 60, 40, 0) + _short_string("") + _short_string(queue) + b"\x01"
    return _frame_head(_METHOD, CHANNEL, len(payload)) + payload + _END


@functools.lru_cache(maxsize=64)
def _content_type(content_type: str, content_encoding: str) -> bytes:
    return _short_string(content_type) + _short_string(content_encoding)


@functools.lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    return _short_string(key)


@functools.lru_cache(maxsize=1024)
def _text_key(key: str) -> bytes:
    return _short_string(key) + b"S"


@functools.lru_cache(maxsize=4096)
def _template_entries(template: HeaderTemplate) -> bytes:
    return _marshal_entries(template.headers)


def _marshal_entries(headers: Mapping[str, Any]) -> bytes:
    parts: list[bytes] = []
    add = parts.append
    for key, value in headers.items():
        if type(value) is str:
            data = value.encode()
            add(_text_key(key))
            add(_long(len(data)))
            add(data)
        else:
            add(_key(key))
            add(_other_value(value))
    return b"".join(parts)


def _marshal_table(headers: Mapping[str, Any]) -> bytes:
    entries = _marshal_entries(headers)
    return _long(len(entries)) + entries


def _other_value(value: Any) -> bytes:
    """A value with its type letter, in the letters that py-amqp writes.

    pamqp picks the smallest integer type, of which older py-amqp reads `s` as a string, and 32-bit floats.
    """
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        return b"I" + _int(value) if -(2**31) <= value < 2**31 else b"l" + _long_long(value)
    if isinstance(value, float):
        return b"d" + _double(value)
    if isinstance(value, str):
        data = value.encode()
        return b"S" + _long(len(data)) + data
    if isinstance(value, Mapping):
        return b"F" + _marshal_table(value)
    if isinstance(value, (list, tuple)):
        data = b"".join(map(_other_value, value))
        return b"A" + _long(len(data)) + data
    raise TypeError(f"a header of type {type(value).__name__}")


def marshal_message(message: Message, frame_max: int) -> bytes:
    """All frames of one persistent, mandatory message; `message_id` and `correlation_id` are the task id."""
    task_id = _short_string(message.task_id)
    body = message.body
    expiration = message.expiration_seconds
    constant, own = _template_entries(message.template), _marshal_entries(message.own_headers)
    payload = b"".join(
        (
            _header_head(60, 0, len(body)),
            _FLAGS if expiration is None else _FLAGS_EXPIRING,
            _content_type(message.content_type, message.content_encoding),
            _long(len(constant) + len(own)),
            constant,
            own,
            b"\x02",
            bytes((LOWEST_PRIORITY if message.priority is None else message.priority,)),
            task_id,
            b"" if expiration is None else _short_string(str(max(0, int(expiration * 1000)))),
            task_id,
        )
    )
    header_size, body_size, most = len(payload), len(body), frame_max - FRAME_OVERHEAD_BYTES
    if header_size > most:
        raise ValueError("headers larger than a frame")
    head = (_publish_frame(message.queue), _frame_head(_HEADER, CHANNEL, header_size), payload, _END)
    if 0 < body_size <= most:
        return b"".join((*head, _frame_head(_BODY, CHANNEL, body_size), body, _END))
    chunks = [body[at : at + most] for at in range(0, body_size, most)]
    return b"".join(
        (*head, *(part for chunk in chunks for part in (_frame_head(_BODY, CHANNEL, len(chunk)), chunk, _END)))
    )
