"""A stack with the reference contracts switched on and the example apps as workers."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskfleet_core.taskqueue import load_task_queues
from tests.support.stack import QueueOptions, Stack, StackOptions, running_stack
from tests.support.task_api import TaskApi

__all__ = ["EXAMPLES", "REFERENCES", "TASK_TIMEOUT_SECONDS", "Site", "other_site", "running_site", "site"]

EXAMPLES = Path(__file__).parents[2] / "examples"
TASK_TIMEOUT_SECONDS = 4
REFERENCES = {"references": "000,001,002,003,004"}
LIMIT = {"TASK_TIMEOUT": str(TASK_TIMEOUT_SECONDS)}  # of 001, short so that tests are
MAIN = StackOptions(broker="4.3", database="postgresql", environment=REFERENCES, variables=LIMIT)


class Site:
    """A running installation with the references, and what tests ask of it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.http: httpx.Client = stack.client()
        self.api = TaskApi(self.http)

    def log_tails(self) -> list[tuple[str, str]]:
        """For the report of a failed test."""
        return self.stack.log_tails()

    def serve(self, example: str, env: Mapping[str, str] | None = None) -> str:
        """Make sure that a worker runs the example's app with the limits of its TaskQueue; returns the queue."""
        (queue,) = load_task_queues(EXAMPLES / example / "taskqueue.yaml")
        worker = queue.spec.worker
        options = QueueOptions(max_task_seconds=worker.max_task_seconds, concurrency=worker.concurrency)
        self.stack.ensure_worker(
            queue.queue_name, options, app=worker.app, cwd=EXAMPLES / example, arguments=("-E",), env=env
        )
        return queue.queue_name

    def worker_log(self, queue: str) -> str:
        """Everything that the workers of a queue logged."""
        return "".join(path.read_text() for path in sorted(self.stack.directory.glob(f"worker-{queue}-*.log")))

    def fetch_rows(self, sql: str) -> list[dict[str, Any]]:
        """What a database tool would show."""
        # Imported here: this module is a plugin of every test process, also of those that only hand out tests.
        from sqlalchemy import text

        from taskfleet_api.records.engine import open_database

        async def fetch() -> list[dict[str, Any]]:
            database = open_database(self.stack.database_url, pool_size=2, timeout_seconds=10)
            try:
                async with database.connect() as connection:
                    return [dict(row) for row in (await connection.execute(text(sql))).mappings()]
            finally:
                await database.close()

        return asyncio.run(fetch())


@contextlib.contextmanager
def running_site(options: StackOptions) -> Iterator[Site]:
    """A site for the length of a with block."""
    with running_stack(options) as stack:
        yield Site(stack)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """RabbitMQ 4.3 and PostgreSQL."""
    with running_site(MAIN) as made:
        yield made


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(StackOptions("valkey", "sqlite", environment=REFERENCES, variables=LIMIT), id="valkey-sqlite"),
        pytest.param(
            StackOptions("3.10", "mariadb", environment=REFERENCES, variables=LIMIT), id="rabbitmq3.10-mariadb"
        ),
    ],
)
def other_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The two other pairs of broker and database, one after the other."""
    with running_site(request.param) as made:
        yield made
