"""Passive declares are spent where the broker's metrics lag."""

from taskfleet_core.statistics.freshness import Freshness

QUEUES = [f"q{number}" for number in range(300)]


def choose_a_second(freshness: Freshness, at: float, hinted: tuple[str, ...] = ()) -> list[str]:
    return freshness.choose(QUEUES, hinted, at)


def test_a_broker_with_long_intervals_is_found_out_and_each_queue_gets_its_turn() -> None:
    freshness = Freshness()
    for second in range(4):  # the declare sees a message that the metrics show after four seconds
        freshness.learn({"q": 0}, {"q": 1}, float(second))
    freshness.learn({"q": 1}, {"q": 1}, 4.0)
    assert freshness.is_slow(4.0)
    turns = [choose_a_second(freshness, 5.0 + second) for second in range(3)]
    assert [len(turn) for turn in turns] == [100, 100, 100]
    assert {queue for turn in turns for queue in turn} == set(QUEUES)


def test_a_broker_with_short_intervals_is_left_in_peace_but_for_hints() -> None:
    freshness = Freshness()
    for second in range(3):
        freshness.learn({"q": second}, {"q": second + 1}, float(second))
        freshness.learn({"q": second + 1}, {"q": second + 1}, second + 0.9)
    assert choose_a_second(freshness, 10.0) == []
    assert choose_a_second(freshness, 11.0, ("q7",)) == ["q7"]


def test_what_is_not_known_is_tried_a_little() -> None:
    assert 0 < len(choose_a_second(Freshness(), 0.0)) < 100


def test_hundred_declares_a_second_are_the_bound_also_when_rounds_come_faster() -> None:
    freshness = Freshness(slow_until=1000.0)
    chosen = [freshness.choose(QUEUES, (), at / 10) for at in range(1, 11)]
    assert sum(map(len, chosen)) <= 100 + 100  # the first look, and a second


def test_a_message_that_came_and_went_between_two_looks_proves_nothing() -> None:
    freshness = Freshness()
    freshness.learn({"q": 0}, {"q": 1}, 0.0)
    freshness.learn({"q": 0}, {"q": 0}, 1.0)
    freshness.learn({"q": 0}, {"q": 0}, 10.0)
    assert not freshness.is_slow(10.0)


def test_what_the_metrics_are_known_to_show_wrongly_is_declared_until_they_show_it() -> None:
    """Else a backlog that a declare saw would seem gone in the next second."""
    freshness = Freshness(prompt=3)
    freshness.learn({"q7": 0}, {"q7": 20}, 0.0)
    assert choose_a_second(freshness, 1.0) == ["q7"]
    freshness.learn({"q7": 20}, {"q7": 20}, 1.0)
    assert choose_a_second(freshness, 2.0) == []
