"""The rate of submissions holds for two API processes together, with their store and without it."""

import itertools
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.support.stack import API_PREFIX, Stack, StackOptions, running_stack

from taskfleet_api.tasks.buckets import BURST_SECONDS

RATE = 5.0  # slow enough for a busy machine to reach
BURST = int(RATE * BURST_SECONDS)
SECONDS = 4.0
SLACK = 6  # tasks: a second for what a replica did not know yet; the burst of a second bucket would be 50


@pytest.fixture(scope="module")
def limited() -> Iterator[Stack]:
    """Valkey, here also the broker, and SQLite: nothing else is needed to be accepted or refused."""
    options = StackOptions(
        broker="valkey", database="sqlite", replicas=2, environment={"submit_rate_per_queue": f"{RATE:g}"}
    )
    with running_stack(options) as stack:
        yield stack


def flood(stack: Stack, queue: str, seconds: float = SECONDS) -> tuple[int, float]:
    """Two callers at each replica, as fast as they can: tasks accepted, and for how long."""
    begun = time.monotonic()

    def submit(replica: int) -> int:
        body = {"queue": queue, "task": "jobs.add", "args": [1, 2]}
        with httpx.Client(base_url=stack.url_of(replica), timeout=20, trust_env=False) as client:
            answers = iter(lambda: client.post(API_PREFIX + "/tasks", json=body).status_code, None)
            seen = list(itertools.takewhile(lambda _: time.monotonic() - begun < seconds, answers))
        assert set(seen) <= {202, 429}
        return seen.count(202)

    with ThreadPoolExecutor(4) as pool:
        accepted = sum(pool.map(submit, [0, 1, 0, 1]))
    return accepted, time.monotonic() - begun


def check(what: str, stack: Stack, queue: str) -> None:
    accepted, seconds = flood(stack, queue)
    expected = RATE * seconds
    sys.stdout.write(f"{what}: {accepted} accepted in {seconds:.1f} s; {expected:.0f} expected\n")
    assert expected / 3 <= accepted <= expected + SLACK  # fewer where the machine is too busy to ask for more


@pytest.mark.kill
def test_two_replicas_keep_one_rate(limited: Stack) -> None:
    limited.add_queue("limited")
    batch = [{"queue": "limited", "task": "jobs.add", "args": [1, 2]}] * BURST
    assert limited.client(0).post(API_PREFIX + "/tasks:batch", json=batch).status_code == 202
    check("after a burst at one of them", limited, "limited")
    limited.valkey.kill()
    try:
        flood(limited, "limited", 1.0)  # both learn that they are alone
        check("without the store", limited, "limited")
    finally:
        limited.valkey.start()
    limited.register("limited")
    flood(limited, "limited", 2.0)  # both have asked it again
    check("with the store again", limited, "limited")
