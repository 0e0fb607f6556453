"""One real API process on {Valkey, SQLite} for the module's tests."""

from collections.abc import Iterator

import pytest
from tests.support.site import REFERENCES
from tests.support.stack import QueueOptions, Stack, StackOptions, running_stack


@pytest.fixture(scope="package")
def served() -> Iterator[Stack]:
    """A stack with the queue `jobs` and no worker."""
    # Short times: slow clients and waits are among what is tested.
    seconds = {"header_timeout_seconds": "1", "body_timeout_seconds": "1", "max_wait_seconds": "0.2"}
    options = StackOptions(broker="valkey", database="sqlite", environment=seconds | REFERENCES)
    with running_stack(options) as stack:
        stack.add_queue("jobs", QueueOptions(max_task_seconds=30 * 86_400))
        yield stack
