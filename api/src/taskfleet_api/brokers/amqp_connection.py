"""The publisher's session: a channel in confirm mode, with room for so many messages in flight."""

import asyncio
import struct

from pamqp import header

from taskfleet_api.brokers.confirms import NACKED, Confirms
from taskfleet_api.brokers.publishing import FailureKind, PublishFailure
from taskfleet_core.amqp import AmqpSession, decode_method

__all__ = ["PublishingSession"]

_ACK, _NACK, _RETURN = (60, 80), (60, 120), (60, 50)
_tag_and_bits = struct.Struct(">QB").unpack_from


class PublishingSession(AmqpSession):
    """Made by `connect_amqp`; whoever writes messages first tracks them in `confirms`."""

    confirm_select = True

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.confirms = Confirms(self._on_change)
        self.writable = True
        self._return_detail: str | None = None
        self._changed: asyncio.Future[None] | None = None

    async def wait_change(self, timeout_seconds: float) -> bool:
        """Until something was settled, unblocked, writable or lost; False when time is over first."""
        if self._changed is None or self._changed.done():
            self._changed = self._loop.create_future()
        done, _ = await asyncio.wait((self._changed,), timeout=timeout_seconds)
        return bool(done)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self._on_change()

    def _on_method(self, method: tuple[int, ...], payload: bytes) -> None:
        if method == _ACK:
            tag, bits = _tag_and_bits(payload, 4)
            self.confirms.settle(tag, bool(bits & 1))
        elif method == _NACK:
            tag, bits = _tag_and_bits(payload, 4)
            self.confirms.settle(tag, bool(bits & 1), NACKED)
        elif method == _RETURN:
            returned = decode_method(payload)
            self._return_detail = f"{returned.reply_text} (queue {returned.routing_key!r})"
        else:
            super()._on_method(method, payload)

    def _on_header(self, payload: bytes) -> None:
        if self._return_detail is None:
            return
        content = header.ContentHeader()
        content.unmarshal(payload)
        self.confirms.returned(content.properties.message_id or "", self._return_detail)
        self._return_detail = None

    def _on_change(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _on_end(self, reason: str) -> None:
        self.confirms.fail_all(PublishFailure(FailureKind.CONNECTION, reason))
