"""One real API process on {Valkey, SQLite} for the folder's tests."""

from collections.abc import Iterator

import pytest
from tests.support.site import EXAMPLES, REFERENCES
from tests.support.stack import QueueOptions, Stack, StackOptions, running_stack

from taskfleet_core.taskqueue import load_task_queues

# Short times: slow clients and waits are among what is tested.
SECONDS = {
    "header_timeout_seconds": "1",
    "body_timeout_seconds": "1",
    "max_wait_seconds": "0.2",
    "callback_secrets": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}
LIMIT = {"TASK_TIMEOUT": "0.2"}


def add_queues(stack: Stack) -> None:
    """The queue `jobs`, and one for each reference; every time limit that the document allows is within theirs."""
    names = [load_task_queues(path)[0].queue_name for path in sorted(EXAMPLES.glob("00*/taskqueue.yaml"))]
    for name in ("jobs", *names):
        stack.add_queue(name, QueueOptions(max_task_seconds=30 * 86_400))


@pytest.fixture(scope="package")
def served() -> Iterator[Stack]:
    """A stack with all queues and no worker."""
    with running_stack(
        StackOptions(broker="valkey", database="sqlite", environment=SECONDS | REFERENCES, variables=LIMIT)
    ) as stack:
        add_queues(stack)
        yield stack
