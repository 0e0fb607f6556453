"""Reference 001 with its own numbers: 30 seconds, the queue included. On the smallest stack, beside the other tests."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.site import REFERENCES, Site
from tests.support.stack import StackOptions, running_stack
from tests.support.waiting import eventually_sync

PENDING = {"status": "pending", "message": "Пока не можем обработать ваш запрос, попробуйте позже"}
LIMIT_SECONDS = 30
RUNNING = {"queue": "delay", "state": "running"}
LATE_SECONDS = 10  # what a busy machine may add


@pytest.fixture(scope="module")
def patient() -> Iterator[Site]:
    """A site whose time limit is what the reference says, with its one worker of one slot."""
    with running_stack(StackOptions(broker="valkey", database="sqlite", environment=REFERENCES)) as stack:
        site = Site(stack)
        site.serve("001-delay")
        yield site


def test_work_and_queueing_beyond_thirty_seconds_are_answered_as_pending(patient: Site) -> None:
    """The second request alone would take a second: it waits behind the first one."""

    def post(delay: float) -> dict[str, object]:
        return dict(patient.http.post("/delay", json={"delay": delay}).json())

    assert post(0.1)["status"] == "completed"
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(post, LIMIT_SECONDS + LATE_SECONDS)
        eventually_sync(lambda: patient.api.request("GET", "/tasks", params=RUNNING).json()["items"], 20)
        short = pool.submit(post, 1)
        for answer in (long.result(), short.result()):
            taken = answer.pop("time")
            assert isinstance(taken, float)
            assert LIMIT_SECONDS <= taken < LIMIT_SECONDS + LATE_SECONDS
            assert answer == PENDING
