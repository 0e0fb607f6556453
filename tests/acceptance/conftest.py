"""Fixtures of the acceptance tests: an API caller for each replica and queues with a running worker."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.stack import QueueOptions, Stack
from tests.support.task_api import TaskApi

_numbers = itertools.count(1)
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The time limit counts the test alone: the first one starts a whole stack."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(120, func_only=True))


@pytest.fixture(scope="session")
def api(stack: Stack) -> TaskApi:
    """The first API replica."""
    return TaskApi(stack.client(0))


@pytest.fixture(scope="session")
def other_api(stack: Stack) -> TaskApi:
    """The second API replica on the same records, store and broker."""
    return TaskApi(stack.client(1))


@pytest.fixture(scope="session")
def jobs(stack: Stack) -> str:
    """A queue with one running worker of two slots."""
    stack.ensure_worker("jobs", QueueOptions(concurrency=2))
    return "jobs"


@pytest.fixture
def idle_queue(stack: Stack) -> Iterator[str]:
    """A fresh queue without workers; a test may start some, they are killed after it."""
    name = f"idle-{next(_numbers)}"
    stack.add_queue(name, QueueOptions(concurrency=1, delivery_limit=2))
    yield name
    stack.stop_workers(name, kill=True)


@pytest.fixture
def ledger(tmp_path: object) -> str:
    """A file of its own in which tasks note that they ran."""
    return f"{tmp_path}/ledger.txt"
