"""What the operator learns from heartbeats."""

from datetime import UTC, datetime, timedelta

import pytest

from taskfleet_operator.counters import Counters
from taskfleet_operator.observed import PodFacts

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


def build_pod(name, *, restarts=0, waiting_reason=None):
    """A pod whose uid is its name."""
    return PodFacts(name, name, CREATED, True, False, restarts=restarts, waiting_reason=waiting_reason)


def build_beat(name, *, after=4.0, **counted):
    """The heartbeat of a worker that began `after` seconds after its pod was made."""
    began = (CREATED + timedelta(seconds=after)).timestamp()
    return {"host": name, "pod_uid": name, "started_at": began, "completed": 0, "runtime_seconds_sum": 0.0, **counted}


def learn_startups(seconds):
    """The start-up time after pods that took so long, one after another."""
    counters = Counters()
    for number, after in enumerate(seconds):
        counters.add_startups([build_beat(f"p{number}", after=after)], [build_pod(f"p{number}")])
    return counters.startup_seconds


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param([], None, id="nothing is known before the first"),
        pytest.param([4.0], 4.0, id="one"),
        pytest.param([4.0, 4.0, 80.0, 4.0, 80.0], 4.0, id="some on new nodes"),
        pytest.param([80.0, 4.0], 4.0, id="a first one with an image to pull"),
        pytest.param([4.0] * 9 + [20.0] * 6, 20.0, id="another image"),
        pytest.param([4000.0], 300.0, id="capped"),
        pytest.param([-3.0], 0.1, id="clocks differ"),
    ],
)
def test_start_up_is_pod_created_to_worker_begun_and_mixed_starts_do_not_mislead(seconds, expected):
    """A mean of 4 s and 80 s is the time of neither."""
    assert learn_startups(seconds) == (None if expected is None else pytest.approx(expected))


def test_a_container_that_started_again_is_no_start_up():
    """Its pod may be hours old; so may it be when the operator starts and sees it for the first time."""
    counters = Counters()
    counters.add_startups([build_beat("p", after=7200.0)], [build_pod("p", restarts=1)])
    assert counters.startup_seconds is None
    for after in (4.0, 60.0):
        counters.add_startups([build_beat("q", after=after)], [build_pod("q", restarts=int(after == 60.0))])
    assert counters.startup_seconds == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("later", "silent"),
    [
        pytest.param(build_pod("p"), {"p"}, id="it runs and says nothing"),
        pytest.param(build_pod("p", restarts=1), set(), id="it begins anew"),
        pytest.param(build_pod("p", waiting_reason="CrashLoopBackOff"), set(), id="it does not run"),
    ],
)
def test_a_worker_that_spoke_and_does_so_no_more_is_silent(later, silent):
    """One that has not spoken yet is starting."""
    counters = Counters()
    counters.add_startups([build_beat("p")], [build_pod("p")])
    assert counters.find_silent([], [later, build_pod("new")]) == silent
    assert counters.find_silent([build_beat("p")], [later]) == set()


def test_the_share_of_slow_tasks_is_known_after_some_and_old_ones_fade():
    """A worker that does not tell may have slow ones only."""
    counters = Counters()
    counters.add([build_beat("p", completed=19, slow=1)])
    assert counters.slow_share is None
    counters.add([build_beat("p", completed=100, slow=1)])
    assert counters.slow_share == 0.01
    counters.add([build_beat("old", completed=100)])
    assert counters.slow_share == pytest.approx(101 / 200)
    for thousands in range(1, 400):
        counters.add([build_beat("p", completed=1000 * thousands, slow=1)])
    assert counters.slow_share < 0.001
