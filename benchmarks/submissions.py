"""Single submissions at 64 connections beside the two peers, and batches into records and into the queue."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx
from tests.support.stack import API_PREFIX, Stack

from benchmarks.figures import Figure, say
from benchmarks.load import LoadResult, run_load
from benchmarks.servers import (
    BENCH_QUEUE,
    Broker,
    cpu_seconds,
    forget_records,
    run_sql,
    start_peer,
    wait_published,
)

__all__ = ["measure_batches", "measure_single"]

CONNECTIONS = 64
LOAD_SECONDS = 5
WARM_UP_SECONDS = 2
BATCH_ITEMS = 10_000
BATCHES = 4


@dataclass(frozen=True)
class _Side:
    key: str
    url: str
    queue: str
    pid: int
    settle: Callable[[], None]


@dataclass(frozen=True)
class _Round:
    rate: float
    load: LoadResult
    cpu_microseconds: float


def measure_single(stack: Stack, rounds: int) -> list[Figure]:
    """Ours, peer (a) and peer (b) in turn, `rounds` times, on the same broker and database server."""
    broker = Broker(stack)
    database = stack.database.create_database().replace("postgresql://", "postgresql+asyncpg://")
    delay_url, delay = start_peer(stack, "delay", "peer-delay")
    recorded_url, recorded = start_peer(stack, "recorded", "peer-recorded", PEER_DATABASE_URL=database)
    sides = [
        _Side(
            "ours",
            f"{stack.base_url}{API_PREFIX}/tasks",
            BENCH_QUEUE,
            stack.api_process().pid,
            lambda: wait_published(stack),
        ),
        _Side("a", delay_url, "peer-delay", delay.pid, lambda: None),
        _Side("b", recorded_url, "peer-recorded", recorded.pid, lambda: None),
    ]
    seen: dict[str, list[_Round]] = {side.key: [] for side in sides}
    try:
        for side in sides:
            _run_round(stack, broker, side, WARM_UP_SECONDS)
        for number in range(1, rounds + 1):
            for side in sides:
                outcome = _run_round(stack, broker, side, LOAD_SECONDS)
                seen[side.key].append(outcome)
                say(f"single, round {number}, {side.key}: {outcome.rate:,.0f}/s, p50 {outcome.load.p50_ms:.1f} ms")
    finally:
        delay.kill()
        recorded.kill()
        broker.close()
    return _single_figures(seen)


def _run_round(stack: Stack, broker: Broker, side: _Side, seconds: float) -> _Round:
    """Load one side; the clock stops when what was accepted is in the queue, and the queue's count is checked."""
    body = json.dumps({"queue": side.queue, "task": "jobs.add", "args": [1, 2], "kwargs": {}})
    used = cpu_seconds(side.pid)
    load = run_load(side.url, body, seconds=seconds, connections=CONNECTIONS)
    over = time.perf_counter()
    side.settle()
    settling = time.perf_counter() - over
    used = cpu_seconds(side.pid) - used
    if load.failures:
        raise SystemExit(f"{side.key}: {load.failures} of {load.requests} submissions failed")
    in_queue = _settled_count(broker, side.queue)
    if in_queue < load.accepted:
        raise SystemExit(f"{side.key}: {load.accepted} accepted and only {in_queue} in the queue")
    broker.purge(side.queue)
    forget_records(stack)
    return _Round(load.accepted / (load.seconds + settling), load, used / load.accepted * 1e6)


def _settled_count(broker: Broker, queue: str) -> int:
    """The queue's count once it no longer grows: the last answers may be on their way when the load stops."""
    last = -1
    while (count := broker.count(queue)) != last:
        last = count
        time.sleep(0.2)
    return count


def _single_figures(seen: dict[str, list[_Round]]) -> list[Figure]:
    ours = [r.rate for r in seen["ours"]]
    figures = [Figure("Single submissions, Taskfleet", "tasks/s", ours, note="recorded and confirmed")]
    figures += [
        Figure("... peer (a): FastAPI + delay()", "tasks/s", [r.rate for r in seen["a"]], note="no record, no confirm"),
        Figure("... peer (b): record + confirm", "tasks/s", [r.rate for r in seen["b"]], note="the equal promise"),
    ]
    for key, bound in (("a", 4.0), ("b", 12.0)):
        ratios = [own / other.rate for own, other in zip(ours, seen[key], strict=True)]
        figures.append(Figure(f"Ratio to peer ({key})", "times", ratios, at_least=bound, digits=1))
    for key, name in (("ours", "Taskfleet"), ("a", "peer (a)"), ("b", "peer (b)")):
        figures.append(
            Figure(f"Server's CPU per task, {name}", "µs", [r.cpu_microseconds for r in seen[key]], note="API alone")
        )
        figures.append(Figure(f"Answer p50, {name}", "ms", [r.load.p50_ms for r in seen[key]], digits=1))
        figures.append(Figure(f"Answer p99, {name}", "ms", [r.load.p99_ms for r in seen[key]], digits=1))
    return figures


def measure_batches(stack: Stack, rounds: int) -> list[Figure]:
    """Batches of 10,000: until the last is answered (recorded), and until the last is confirmed in the queue."""
    broker = Broker(stack)
    item = {"queue": BENCH_QUEUE, "task": "jobs.add", "args": [1, 2], "kwargs": {}}
    body = json.dumps([item] * BATCH_ITEMS).encode()
    records, confirmed = [], []
    try:
        for number in range(rounds + 1):
            begun = time.perf_counter()
            asyncio.run(_send_batches(stack, body))
            answered = time.perf_counter()
            wait_published(stack)
            done = time.perf_counter()
            _check_batches(stack, broker)
            if number:  # the first one warms up
                records.append(BATCHES * BATCH_ITEMS / (answered - begun))
                confirmed.append(BATCHES * BATCH_ITEMS / (done - begun))
                say(f"batch, round {number}: {records[-1]:,.0f}/s recorded, {confirmed[-1]:,.0f}/s confirmed")
    finally:
        broker.close()
    return [
        Figure("Batches of 10,000 into records", "tasks/s", records, at_least=20_000, note="2 requests at a time"),
        Figure("... through to confirmed in the queue", "tasks/s", confirmed, at_least=10_000),
    ]


async def _send_batches(stack: Stack, body: bytes) -> None:
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=60, trust_env=False) as client:
        turns = asyncio.Semaphore(2)

        async def send() -> None:
            async with turns:
                answer = await client.post(
                    f"{API_PREFIX}/tasks:batch", content=body, headers={"Content-Type": "application/json"}
                )
                if answer.status_code not in (200, 202, 207):
                    raise SystemExit(f"batch answered {answer.status_code}: {answer.text[:300]}")

        await asyncio.gather(*(send() for _ in range(BATCHES)))


def _check_batches(stack: Stack, broker: Broker) -> None:
    expected = BATCHES * BATCH_ITEMS
    recorded = run_sql(stack.database_url, "SELECT count(*) FROM tasks")
    in_queue = _settled_count(broker, BENCH_QUEUE)
    if recorded != expected or in_queue < expected:
        raise SystemExit(f"of {expected} tasks {recorded} are recorded and {in_queue} are in the queue")
    broker.purge(BENCH_QUEUE)
    forget_records(stack)
