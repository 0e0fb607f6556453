"""No-op tasks per second of one worker: ours and stock Celery in turn, from equal queues; start latency; memory."""

import http.client
import json
import statistics
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Any

import amqp
from celery import Celery
from tests.support.processes import ManagedProcess, start_process
from tests.support.stack import API_PREFIX, WORKER_APP_DIRECTORY, QueueOptions, Stack
from tests.support.waiting import eventually_sync

from benchmarks.figures import Figure, say
from benchmarks.servers import BENCH_QUEUE, ROOT, Broker, forget_records, list_family, resident_mib

__all__ = ["measure_latency", "measure_memory", "measure_workers"]

CONCURRENCY = 2
TASKS = 6_000
EDGE = 1_000  # left out at the start, while the worker warms up
LATENCY_TASKS = 300
QUIET = ("-l", "WARNING")  # two log lines for each task would be measured too
QUEUE_OURS = "bench-noop"
QUEUE_STOCK = "stock-noop"


@dataclass(frozen=True)
class _Case:
    task: str
    pool: str


def measure_workers(stack: Stack, rounds: int) -> list[Figure]:
    """No-op tasks with a stored result on prefork; the same on threads."""
    stack.add_queue(QUEUE_OURS, QueueOptions(concurrency=CONCURRENCY))
    stack.stop_workers()
    stack.stop_api()  # this is about the worker: the recorder would take its share of the cores
    broker = Broker(stack)
    broker.declare_quorum(QUEUE_STOCK)
    figures = []
    try:
        for case in (_Case("jobs.noop_result", "prefork"), _Case("jobs.noop_result", "threads")):
            ours, stock = [], []
            for number in range(1, rounds + 1):
                ours.append(_run_ours(stack, broker, case))
                stock.append(_run_stock(stack, broker, case))
                say(f"worker {case.pool}, round {number}: ours {ours[-1]:,.0f}/s, stock {stock[-1]:,.0f}/s")
            ratios = [own / other for own, other in zip(ours, stock, strict=True)]
            figures += [
                Figure(f"No-op tasks, {case.pool} x{CONCURRENCY}, Taskfleet", "tasks/s", ours),
                Figure("... stock Celery, Redis backend", "tasks/s", stock),
                Figure("... ratio", "times", ratios, at_least=0.9, digits=2),
            ]
    finally:
        broker.close()
    return figures


def _run_ours(stack: Stack, broker: Broker, case: _Case) -> float:
    _fill(broker, QUEUE_OURS, case.task)
    worker = stack.start_worker(QUEUE_OURS, pool=case.pool, concurrency=CONCURRENCY, arguments=QUIET)
    try:
        rate = _drain_rate(broker, QUEUE_OURS, worker.process)
        _check_results(stack)
    finally:
        stack.stop_workers(QUEUE_OURS)
        stack.valkey.flush()
    return rate


def _run_stock(stack: Stack, broker: Broker, case: _Case) -> float:
    _fill(broker, QUEUE_STOCK, case.task)
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.stock:app", "worker", "-Q", QUEUE_STOCK]
    command += ["-c", str(CONCURRENCY), "-P", case.pool, "--prefetch-multiplier", "1", "--without-gossip"]
    process = start_process(
        [*command, "-O", "fair", "--without-mingle", *QUIET],
        env={
            "PYTHONPATH": str(WORKER_APP_DIRECTORY),
            "STOCK_BROKER_URL": stack.broker_url,
            "STOCK_REDIS_URL": stack.valkey.url,
            "STOCK_QUEUE": QUEUE_STOCK,
        },
        cwd=ROOT,
        log=stack.directory / "worker-stock.log",
    )
    try:
        rate = _drain_rate(broker, QUEUE_STOCK, process)
        _check_results(stack)
    finally:
        process.terminate()
        stack.valkey.flush()
    return rate


def _check_results(stack: Stack) -> None:
    """Every task must have left its result, or the rate says nothing."""
    eventually_sync(lambda: int(stack.valkey.command("DBSIZE").removeprefix(b":")) >= TASKS, 20)


def _fill(broker: Broker, queue: str, task: str) -> None:
    """Put equal messages of a plain Celery producer into the queue."""
    broker.purge(queue)
    app = Celery("producer")
    for _ in range(TASKS):
        task_id = str(uuid.uuid4())
        message = app.amqp.as_task_v2(task_id, task, (), {})
        body, content_type, encoding = _encode(message.body)
        broker.channel.basic_publish(
            amqp.Message(
                body,
                application_headers=message.headers,
                content_type=content_type,
                content_encoding=encoding,
                correlation_id=task_id,
                delivery_mode=2,
            ),
            routing_key=queue,
        )
    deadline = time.monotonic() + 30
    while broker.count(queue) < TASKS:
        if time.monotonic() > deadline:
            raise SystemExit("the queue does not fill")
        time.sleep(0.05)


def _encode(body: object) -> tuple[str, str, str]:
    from kombu.serialization import dumps

    content_type, encoding, payload = dumps(body, serializer="json")
    return payload, content_type, encoding


def _drain_rate(broker: Broker, queue: str, process: ManagedProcess, timeout_seconds: float = 120) -> float:
    """Tasks/s between the first EDGE tasks and the last ready one."""
    deadline = time.monotonic() + timeout_seconds
    begun, at_begin = None, 0
    while True:
        count = broker.count(queue)
        now = time.perf_counter()
        if begun is None and count <= TASKS - EDGE:
            begun, at_begin = now, count
        if count == 0 and begun is not None:
            return at_begin / (now - begun)
        if not process.is_running or time.monotonic() > deadline:
            raise SystemExit(f"the worker does not drain {queue}: {count} left\n{process.output()}")
        time.sleep(0.02)


def measure_latency(stack: Stack, rounds: int) -> list[Figure]:
    """From sending the POST to the first line of the task's body on an idle running worker."""
    stack.ensure_worker(BENCH_QUEUE, concurrency=CONCURRENCY)
    p50, p99 = [], []
    for number in range(rounds + 1):
        waits = sorted(_start_latency_ms(stack, 50 if number == 0 else LATENCY_TASKS))
        if number:
            p50.append(statistics.median(waits))
            p99.append(waits[int(len(waits) * 0.99)])
            say(f"latency, round {number}: p50 {p50[-1]:.1f} ms, p99 {p99[-1]:.1f} ms")
    forget_records(stack)
    return [
        Figure("Submit to start on an idle worker, p50", "ms", p50, at_most=10, digits=1),
        Figure("... p99", "ms", p99, digits=1),
    ]


def _start_latency_ms(stack: Stack, tasks: int) -> list[float]:
    """Plain submissions one after the other, by a lean client: its own time would count as latency."""
    body = json.dumps({"queue": BENCH_QUEUE, "task": "jobs.started_at"})
    connection = http.client.HTTPConnection(stack.base_url.removeprefix("http://"), timeout=30)
    waits = []
    try:
        for _ in range(tasks):
            sent = time.time()
            record = _request(connection, "POST", f"{API_PREFIX}/tasks", body)
            while record["state"] != "succeeded":
                time.sleep(0.02)
                record = _request(connection, "GET", f"{API_PREFIX}/tasks/{record['id']}")
            waits.append((record["result"] - sent) * 1000)
    finally:
        connection.close()
    return waits


def _request(connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None) -> dict[str, Any]:
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status not in (200, 202):
        raise SystemExit(f"{method} {path} answered {answer.status}: {text[:300]!r}")
    return dict(json.loads(text))


def measure_memory(stack: Stack) -> list[Figure]:
    """Resident memory of each process after the load; children of a worker are listed apart."""
    stack.ensure_worker(BENCH_QUEUE, concurrency=CONCURRENCY)
    parts = {"API process": list_family(stack.api_process().pid)}
    worker = next(w for w in stack.workers if w.queue == BENCH_QUEUE)
    parent, *children = list_family(worker.process.pid)
    parts["Worker, main process"] = [parent]
    parts[f"Worker, {len(children)} prefork children"] = children
    for name, part in (("RabbitMQ", stack.broker), ("Valkey", stack.valkey), ("PostgreSQL", stack.database)):
        process = getattr(part, "_process", None)
        if process is not None:
            parts[name] = list_family(process.pid)
    figures = []
    for name, pids in parts.items():
        sizes = [resident_mib(pid) for pid in pids]
        proportional = sum(pss for _, pss in sizes)
        note = f"{len(pids)} processes, shared pages counted once" if len(pids) > 1 else "proportional"
        figures.append(Figure(f"Memory: {name}", "MiB", [proportional], note=note))
    return figures
