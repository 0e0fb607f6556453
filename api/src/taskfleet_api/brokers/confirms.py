"""Which messages in flight the broker has settled. Pure bookkeeping: no socket, no clock.

Acknowledgements come out of order and in multiples; a return comes before its acknowledgement and carries no tag.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from taskfleet_api.brokers.messages import Message
from taskfleet_api.brokers.publishing import FailureKind, PublishFailure

__all__ = ["Confirms", "Window"]

NACKED = PublishFailure(FailureKind.NACKED, "the broker refused the message")


class Window:
    """Messages that were written together: consecutive delivery tags, one future for all."""

    __slots__ = (
        "_low",
        "_offset",
        "_results",
        "_unsettled",
        "done",
        "first",
        "last",
        "messages",
        "open_count",
        "size_bytes",
    )

    def __init__(
        self,
        first: int,
        messages: Sequence[Message],
        results: list[PublishFailure | None],
        offset: int,
        size_bytes: int,
        done: "asyncio.Future[None]",
    ) -> None:
        self.first, self.last = first, first + len(messages) - 1
        self.messages = messages
        self.size_bytes = size_bytes
        self.open_count = len(messages)
        self.done = done
        self._results, self._offset = results, offset
        self._unsettled = bytearray(b"\x01") * len(messages)
        self._low = 0  # everything before this index is settled

    def settle(self, tag: int, failure: PublishFailure | None) -> int:
        """One message; returns how many this settled (0 when it was settled before)."""
        index = tag - self.first
        if not self._unsettled[index]:
            return 0
        self._unsettled[index] = 0
        self.open_count -= 1
        if failure is not None and self._results[self._offset + index] is None:
            self._results[self._offset + index] = failure
        return 1

    def settle_until(self, tag: int, failure: PublishFailure | None) -> int:
        """All up to `tag`; returns how many this settled."""
        count = 0
        upper = min(tag, self.last) - self.first + 1
        if failure is None:
            count = self._unsettled.count(1, self._low, upper)
            self._unsettled[self._low : upper] = bytes(max(0, upper - self._low))
            self.open_count -= count
        else:
            for index in range(self._low, upper):
                count += self.settle(self.first + index, failure)
        self._low = max(self._low, upper)
        return count

    def mark_returned(self, task_id: str, failure: PublishFailure) -> bool:
        """Note the failure of the first open message of that id; its acknowledgement is still to come."""
        for index, message in enumerate(self.messages):
            place = self._offset + index
            if message.task_id == task_id and self._unsettled[index] and self._results[place] is None:
                self._results[place] = failure
                return True
        return False


class Confirms:
    """The windows of one channel in confirm mode."""

    def __init__(self, on_settled: Callable[[], None]) -> None:
        self.in_flight = 0
        self.in_flight_bytes = 0
        self._next_tag = 1
        self._windows: deque[Window] = deque()
        self._on_settled = on_settled

    def track(
        self,
        messages: Sequence[Message],
        results: list[PublishFailure | None],
        offset: int,
        size_bytes: int,
        done: "asyncio.Future[None]",
    ) -> Window:
        """Take the next tags for `messages`, whose outcomes go to `results` from `offset` on."""
        window = Window(self._next_tag, messages, results, offset, size_bytes, done)
        self._next_tag += len(messages)
        self._windows.append(window)
        self.in_flight += len(messages)
        self.in_flight_bytes += size_bytes
        return window

    def settle(self, tag: int, multiple: bool, failure: PublishFailure | None = None) -> None:
        """An ack (no failure) or a nack. Tags that nothing waits for any more are ignored."""
        if multiple:
            self._settle_until(tag or self._next_tag - 1, failure)
        else:
            for window in self._windows:
                if window.first <= tag <= window.last:
                    self.in_flight -= window.settle(tag, failure)
                    self._finish_if_complete(window)
                    break
        self._drop_finished()
        self._on_settled()

    def returned(self, task_id: str, detail: str) -> None:
        """The broker sent a message back: no queue takes it."""
        failure = PublishFailure(FailureKind.RETURNED, detail)
        for window in self._windows:
            if window.mark_returned(task_id, failure):
                return

    def expire(self, window: Window, failure: PublishFailure) -> None:
        """Give up what is still open in a window."""
        self.in_flight -= window.settle_until(window.last, failure)
        self._finish_if_complete(window)
        self._drop_finished()
        self._on_settled()

    def fail_all(self, failure: PublishFailure) -> None:
        """Give up everything that is open."""
        for window in tuple(self._windows):
            self.expire(window, failure)

    def _settle_until(self, tag: int, failure: PublishFailure | None) -> None:
        for window in self._windows:
            if window.first > tag:
                break
            self.in_flight -= window.settle_until(tag, failure)
            self._finish_if_complete(window)

    def _finish_if_complete(self, window: Window) -> None:
        if window.open_count == 0 and window.size_bytes >= 0:
            self.in_flight_bytes -= window.size_bytes
            window.size_bytes = -1  # counted once
            if not window.done.done():
                window.done.set_result(None)

    def _drop_finished(self) -> None:
        while self._windows and self._windows[0].open_count == 0:
            self._windows.popleft()
