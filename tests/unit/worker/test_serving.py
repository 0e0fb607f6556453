"""Whose turn it is among the queues of one worker."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from taskfleet_worker.events import find_queue
from taskfleet_worker.serving import Shares, WeightedCycle, use_weights

weights = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1)


@given(weights)
def test_while_all_wait_each_gets_its_share(weight: dict[str, int]) -> None:
    """Exactly, in each round of as many starts as there are weights."""
    shares, names = Shares(weight), list(weight)
    taken: Counter[str] = Counter()
    for _ in range(2 * sum(weight.values())):
        name = shares.sort(names)[0]
        shares.take(name, names)
        taken[name] += 1
    assert taken == {name: 2 * count for name, count in weight.items()}


@given(weights, st.data())
def test_none_starves_and_absence_gathers_no_claims(weight: dict[str, int], data: st.DataObject) -> None:
    """A queue that comes back does not take all starts; one that waits gets one in a round."""
    shares, names = Shares(weight), list(weight)
    for _ in range(50):
        some = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        shares.take(shares.sort(some)[0], some)
    longest = 4 * sum(weight.values())
    started = []
    for _ in range(longest):
        started.append(shares.sort(names)[0])
        shares.take(started[-1], names)
    assert set(started) == set(names)


def test_redis_is_asked_in_the_order_of_the_shares() -> None:
    use_weights({"a": 2, "b": 1})
    cycle = WeightedCycle()
    cycle.update(["a", "b"])
    order = [cycle.rotate(cycle.consume(2)[0]) for _ in range(6)]
    assert sorted(order) == ["a", "a", "a", "a", "b", "b"]
    assert cycle.rotate("unknown") == "unknown"
    cycle.update(["b"])
    assert cycle.consume(2) == ["b"]


def test_a_message_tells_its_queue_also_after_a_delay() -> None:
    names = ("mail", "mail.eu")
    delay = ".".join("0" * 28)
    assert find_queue({"routing_key": "mail.eu"}, names) == "mail.eu"
    assert find_queue({"routing_key": f"{delay}.mail.eu"}, names) == "mail.eu"
    assert find_queue({"routing_key": "elsewhere"}, names) is None
    assert find_queue(None, names) is None
