"""The servers of a measurement: one stack for both sides, the peers' processes, and resets between rounds."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amqp
import asyncpg
import httpx
from tests.support.processes import ManagedProcess, descendants_of, free_port, start_process
from tests.support.stack import Stack, StackOptions

__all__ = ["Broker", "bench_stack", "forget_records", "start_peer", "wait_published"]

ROOT = Path(__file__).resolve().parents[1]
BENCH_QUEUE = "bench"
ANSWER_SECONDS = 60
# As it runs in production: the append-only file is written each second.
EVERY_SECOND = ("--appendfsync", "everysec")


@contextlib.contextmanager
def bench_stack() -> Iterator[Stack]:
    """RabbitMQ 4.3, PostgreSQL, Valkey and one API process, with the queue `bench`."""
    stack = Stack(StackOptions(valkey_args=EVERY_SECOND, environment={"log_level": "warning"}))
    try:
        stack.start()
        stack.add_queue(BENCH_QUEUE)
        yield stack
    finally:
        stack.stop()


def start_peer(stack: Stack, module: str, queue: str, **environment: str) -> tuple[str, ManagedProcess]:
    """Serve a peer by the same HTTP server with one process; returns its submission address."""
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--loop", "uvloop", "--no-ws", f"benchmarks.peers.{module}:app"]
    process = start_process(
        command,
        cwd=ROOT,
        env={"PEER_BROKER_URL": stack.broker_url, "PEER_QUEUE": queue, **environment},
        log=stack.directory / f"peer-{module}.log",
        ready=lambda: _answers(f"http://127.0.0.1:{port}/openapi.json"),
    )
    return f"http://127.0.0.1:{port}/api/v1/tasks", process


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


class Broker:
    """A plain AMQP connection that counts, purges and fills queues."""

    def __init__(self, stack: Stack) -> None:
        self._connection = amqp.Connection(
            host=f"127.0.0.1:{stack.broker.port}",
            userid="guest",
            password="guest",
            connect_timeout=ANSWER_SECONDS,
            read_timeout=ANSWER_SECONDS,
            write_timeout=ANSWER_SECONDS,
        )
        self._connection.connect()
        self.channel = self._connection.channel()

    def count(self, queue: str) -> int:
        """Messages that are ready."""
        return int(self.channel.queue_declare(queue, passive=True).message_count)

    def purge(self, queue: str) -> None:
        """Drop what is ready."""
        self.channel.queue_purge(queue)

    def declare_quorum(self, queue: str) -> None:
        """A durable quorum queue."""
        self.channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def run_sql(url: str, statement: str) -> Any:
    """One statement on a PostgreSQL database; the first value of its answer."""

    async def run() -> Any:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return await connection.fetchval(statement, timeout=60)
        finally:
            await connection.close(timeout=5)

    return asyncio.run(run())


def wait_published(stack: Stack, timeout_seconds: float = 120) -> None:
    """Return when every record is confirmed at the broker. Asks seldom and cheaply: the cores are being measured."""

    async def wait() -> None:
        connection = await asyncpg.connect(stack.database_url, timeout=10)
        try:
            async with asyncio.timeout(timeout_seconds):
                while await connection.fetchval("SELECT EXISTS (SELECT FROM tasks WHERE published_at IS NULL)"):
                    await asyncio.sleep(0.05)
        finally:
            await connection.close(timeout=5)

    asyncio.run(wait())


def forget_records(stack: Stack) -> None:
    """Start the next round with empty tables and nothing to write back to disk."""
    run_sql(stack.database_url, "TRUNCATE tasks CASCADE")
    run_sql(stack.database_url, "CHECKPOINT")


def resident_mib(pid: int) -> tuple[float, float]:
    """(resident, proportional) memory of a process in MiB."""
    found = {"Rss": 0.0, "Pss": 0.0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] = int(rest.split()[0]) / 1024
    return found["Rss"], found["Pss"]


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children so far."""
    ticks = 0
    for each in list_family(pid):
        with contextlib.suppress(OSError):  # ended meanwhile
            fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def list_family(pid: int) -> list[int]:
    """The process and all its children."""
    return [pid, *descendants_of(pid)]
