"""How many rows a second the records take, on real databases.

python -m tests.integration.records.profiling [postgresql | mariadb | sqlite]
"""

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import uuid_utils.compat
import uvloop
from tests.support.databases import DatabaseServer, MariaDB, PostgreSQL

from taskfleet_api.records import GroupCommit, NewTask, Records, RetryPolicy, TaskFilter, open_records
from taskfleet_api.records.texts import chunked

BATCH = 10_000
ROUNDS = 5


def build_tasks(count: int) -> list[NewTask]:
    """Typical submissions."""
    now, retry = datetime.now(UTC), RetryPolicy(max_attempts=3)
    return [
        NewTask(
            id=uuid_utils.compat.uuid7(),
            queue="mail",
            task="mail.send",
            created_at=now,
            args_json='["someone@example.com", 12345]',
            kwargs_json='{"subject": "Hello", "urgent": false}',
            retry=retry,
        )
        for _ in range(count)
    ]


def build_events(ids: Sequence[UUID], state: str, **extra: Any) -> list[Any]:
    """One event for each task."""
    common = {"schema": 1, "kind": "state", "queue": "mail", "task": "mail.send", "state": state, "attempt": 1}
    common |= {"retries": 0, "position": 0, "at": time.time(), "worker": "mail@host"}
    return [{**common, "id": str(task_id), **extra} for task_id in ids]


servers: list[DatabaseServer] = []


def get_server_cpu_seconds() -> float:
    """What the processes of our server have used so far."""
    ticks = 0
    for server in servers:
        for pid in server.pids:
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2]
                ticks += sum(map(int, stat.split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


async def measure(label: str, count: int, work: Callable[[], Awaitable[Any]]) -> None:
    """Print the median rate over the rounds, and the CPU time of client and server per row."""
    rates = []
    client, server = time.process_time(), get_server_cpu_seconds()
    for _ in range(ROUNDS):
        start = time.perf_counter()
        await work()
        rates.append(count / (time.perf_counter() - start))
    client, server = (
        (now - then) * 1e6 / (count * ROUNDS)
        for now, then in ((time.process_time(), client), (get_server_cpu_seconds(), server))
    )
    sys.stdout.write(
        f"{label:36} {statistics.median(rates):>7,.0f}/s ({min(rates):,.0f} - {max(rates):,.0f}), "
        f"CPU a row: {client:.0f} us here + {server:.0f} us in the server = "
        f"{1e6 / (client + server):,.0f}/s on one core\n"
    )
    sys.stdout.flush()


async def profile(records: Records) -> None:
    """Each hot path in turn."""
    fresh = [build_tasks(BATCH) for _ in range(ROUNDS)]
    batches = iter(fresh)
    await measure(f"insert_tasks, {BATCH:,} a batch", BATCH, lambda: records.insert_tasks(next(batches)))
    ids = [[task.id for task in batch] for batch in fresh]

    async def mark(round_: Sequence[UUID]) -> None:
        for part in chunked(round_, 500):
            await records.mark_queued(part)

    async def apply(round_: Sequence[UUID], state: str, **extra: Any) -> None:
        for part in chunked(round_, 500):
            await records.apply_events(build_events(part, state, **extra))

    queued, running, done = iter(ids), iter(ids), iter(ids)
    await measure("mark_queued, 500 a batch", BATCH, lambda: mark(next(queued)))
    await measure("apply_events, running, 500 a batch", BATCH, lambda: apply(next(running), "running"))
    outcome = {"result": {"ok": True}, "runtime_seconds": 0.1}
    await measure("apply_events, succeeded, 500 a batch", BATCH, lambda: apply(next(done), "succeeded", **outcome))
    group = GroupCommit(records)

    async def client(tasks: Sequence[NewTask]) -> None:
        for task in tasks:
            await group.submit([task])

    async def clients() -> None:
        tasks = build_tasks(BATCH)
        await asyncio.gather(*[client(tasks[number::64]) for number in range(64)])

    await measure("GroupCommit, 64 single submitters", BATCH, clients)
    await group.close()
    await measure("list_tasks, pages of 50", 20, lambda: walk(records, 20))


async def walk(records: Records, pages: int) -> None:
    """Read some pages."""
    cursor = None
    for _ in range(pages):
        cursor = (await records.list_tasks(TaskFilter(), cursor, 50)).next_cursor


async def main(url: str) -> None:
    """Open, migrate, profile."""
    records = await open_records(url, timeout_seconds=30)
    try:
        await records.migrate()
        await profile(records)
    finally:
        await records.close()


def run(kind: str) -> None:
    """Start the database and profile."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            uvloop.run(main(f"sqlite:///{folder}/records.sqlite"))
            return
        server = {"postgresql": PostgreSQL, "mariadb": MariaDB}[kind]()
        servers.append(server)
        try:
            server.start()
            uvloop.run(main(server.url))
        finally:
            server.stop()


if __name__ == "__main__":
    run(sys.argv[1] if len(sys.argv) > 1 else "postgresql")
