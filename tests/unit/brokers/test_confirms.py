"""Every message ends in exactly one outcome, in whatever order the broker settles."""

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from taskfleet_api.brokers import FailureKind, Message, PublishFailure
from taskfleet_api.brokers.confirms import NACKED, Confirms

LOST = PublishFailure(FailureKind.CONNECTION, "lost")


class Flight:
    """Confirms with some windows of messages under way."""

    def __init__(self, sizes: list[int]) -> None:
        self.confirms = Confirms(lambda: None)
        self.results: list[PublishFailure | None] = [None] * sum(sizes)
        self.messages = [Message(f"task-{tag}", "q", b"", {}) for tag in range(1, sum(sizes) + 1)]
        loop = asyncio.get_running_loop()
        start = 0
        self.windows = []
        for size in sizes:
            part = self.messages[start : start + size]
            self.windows.append(self.confirms.track(part, self.results, start, 10 * size, loop.create_future()))
            start += size

    @property
    def is_landed(self) -> bool:
        flat = self.confirms.in_flight == 0 and self.confirms.in_flight_bytes == 0
        return flat and all(window.done.done() for window in self.windows)


async def test_acks_in_order_confirm() -> None:
    flight = Flight([2, 2])
    for tag in (1, 2, 3, 4):
        assert not flight.is_landed
        flight.confirms.settle(tag, multiple=False)
    assert flight.is_landed
    assert flight.results == [None] * 4


async def test_a_multiple_ack_confirms_up_to_its_tag_only() -> None:
    flight = Flight([3, 3])
    flight.confirms.settle(4, multiple=True)
    assert flight.windows[0].done.done()
    assert not flight.windows[1].done.done()
    assert flight.confirms.in_flight == 2
    flight.confirms.settle(0, multiple=True)  # zero means all
    assert flight.is_landed


async def test_a_return_before_its_ack_is_the_outcome() -> None:
    flight = Flight([3])
    flight.confirms.returned("task-2", "NO_ROUTE")
    flight.confirms.settle(3, multiple=True)
    assert flight.is_landed
    assert [failure.kind if failure else None for failure in flight.results] == [None, FailureKind.RETURNED, None]


async def test_the_same_task_twice_in_flight_is_returned_twice() -> None:
    confirms = Confirms(lambda: None)
    results: list[PublishFailure | None] = [None, None]
    twice = [Message("same", "q", b"", {})] * 2
    confirms.track(twice, results, 0, 0, asyncio.get_running_loop().create_future())
    confirms.returned("same", "NO_ROUTE")
    confirms.returned("same", "NO_ROUTE")
    confirms.settle(2, multiple=True)
    assert all(results)


async def test_late_and_unknown_tags_change_nothing() -> None:
    flight = Flight([2])
    flight.confirms.expire(flight.windows[0], LOST)
    flight.confirms.settle(1, multiple=False)
    flight.confirms.settle(2, multiple=True)
    flight.confirms.settle(99, multiple=False)
    flight.confirms.returned("nobody", "NO_ROUTE")
    assert flight.is_landed
    assert flight.results == [LOST, LOST]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.randoms(use_true_random=False), st.booleans())
def test_any_order_of_answers_gives_each_message_one_outcome(
    sizes: list[int], order: random.Random, loses_connection: bool
) -> None:
    asyncio.run(_answer_at_random(sizes, order, loses_connection))


async def _answer_at_random(sizes: list[int], order: random.Random, loses_connection: bool) -> None:
    flight = Flight(sizes)
    total = sum(sizes)
    expected: list[PublishFailure | str | None] = ["open"] * total
    while "open" in expected:
        if loses_connection and order.random() < 0.05:
            flight.confirms.fail_all(LOST)
            expected = [LOST if outcome == "open" else outcome for outcome in expected]
            break
        tag = order.choice([index + 1 for index, outcome in enumerate(expected) if outcome == "open"])
        multiple, failure = order.random() < 0.3, order.choice([None, NACKED])
        flight.confirms.settle(tag, multiple, failure)
        for index in range(tag) if multiple else (tag - 1,):
            if expected[index] == "open":
                expected[index] = failure
        assert flight.confirms.in_flight == expected.count("open")
    assert flight.results == expected
    assert flight.is_landed
