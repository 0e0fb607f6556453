"""Real `celery worker` processes for tests: one queue, one app with every kind of task, events read from the stream."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis
from celery import Celery
from celery.result import AsyncResult
from kombu import Connection, Exchange, Producer, Queue, pools
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.processes import ManagedProcess, children_of, start_process
from tests.support.waiting import eventually_sync

import taskfleet_worker
from taskfleet_worker import _wire
from taskfleet_worker.environment import build_command, build_environment

SOURCE = Path(taskfleet_worker.__file__).parents[1]
APP_FOLDER = Path(__file__).parent / "app"
FINAL = _wire.FINAL_STATES
QUORUM = {"x-queue-type": "quorum"}


class Worker:
    """One worker process and what it says of itself."""

    def __init__(self, bench: "Bench", process: ManagedProcess, host: str, health_file: Path) -> None:
        self.bench, self.process, self.host, self.health_file = bench, process, host, health_file

    def heartbeat(self) -> dict[str, Any] | None:
        """The newest heartbeat, None when it is gone."""
        text = self.bench.redis.get(_wire.worker_key(self.bench.queue, self.host))
        return None if text is None else json.loads(text)

    def log(self) -> str:
        """Everything it wrote."""
        assert self.process.log is not None
        return self.process.log.read_text(errors="replace")

    def children(self) -> list[int]:
        """Process ids of its pool."""
        return children_of(self.process.pid)


class Bench:
    """One queue on one broker with one store."""

    def __init__(self, broker: RabbitMQ | Valkey, store: Valkey, folder: Path, *, others: int = 0) -> None:
        self.broker, self.store, self.folder = broker, store, folder
        self.queue = f"q-{uuid4().hex[:8]}"
        self.others = [f"q-{uuid4().hex[:8]}" for _ in range(others)]
        self.redis = redis.Redis.from_url(store.url, decode_responses=True, socket_timeout=5)
        self.traces = folder / "traces"
        self.traces.mkdir()
        self.workers: list[Worker] = []
        self.app = self._build_producer()
        if isinstance(broker, RabbitMQ):
            self._declare()

    def _build_producer(self) -> Celery:
        """A plain Celery producer; its results are read as any Celery program would."""
        app = Celery("producer", broker=self.broker.url, backend=self.store.url, set_as_current=False)
        kind = "topic" if isinstance(self.broker, RabbitMQ) else "direct"
        queues = [
            Queue(name, exchange=Exchange("", type=kind), routing_key=name, no_declare=True)
            for name in (self.queue, *self.others)
        ]
        app.conf.update(
            task_queues=queues,
            task_default_queue=self.queue,
            task_default_exchange="",
            task_default_exchange_type=kind,
            task_default_routing_key=self.queue,
            worker_detect_quorum_queues=False,
        )
        # Results are asked for where a test wants them; sending alone needs no subscription.
        app.backend.on_task_call = lambda producer, task_id: None
        return app

    def _declare(self) -> None:
        arguments = {**QUORUM}
        with Connection(self.broker.url, connect_timeout=10) as connection:
            for name in (self.queue, *self.others):
                Queue(name, exchange=Exchange(""), queue_arguments=arguments)(connection.channel()).declare()

    def limit_deliveries(self, limit: int) -> None:
        """Set the broker's delivery limit; on Valkey the workers are told instead."""
        if isinstance(self.broker, RabbitMQ):
            policy = {"pattern": f"^{self.queue}$", "apply-to": "queues", "definition": {"delivery-limit": limit}}
            self.broker.management("PUT", f"/api/policies/%2F/{self.queue}", policy)

    def close(self) -> None:
        """End every worker and connection."""
        for worker in self.workers:
            worker.process.kill()
        pools.reset()
        self.app.backend.result_consumer.stop()
        # Results collected later would connect again to tell a store that is gone.
        self.app.backend.result_consumer.cancel_for = lambda task_id: None
        self.app.backend.client.close()
        self.app.close()
        self.redis.close()

    # Workers

    def start_worker(self, pool: str = "prefork", concurrency: int = 2, **options: Any) -> Worker:
        """Start a worker and wait for its first heartbeat that consumes."""
        host = options.pop("host", f"{pool}-{uuid4().hex[:6]}")
        extra = options.pop("env", {})
        health_file = self.folder / f"{host}.health"
        options.setdefault("max_task_seconds", 60)
        env = build_environment(
            queue=(weights := options.pop("weights", {self.queue: 1})),
            broker_url=self.broker.url,
            redis_url=self.store.url,
            host=host,
            health_file=str(health_file),
            log_format=options.pop("log_format", "json"),
            **options,
        )
        env.update({"TRACES": str(self.traces), "C_FORCE_ROOT": "1", "PYTHONWARNINGS": "ignore", **extra})
        # Another interpreter, with another Celery and nothing of ours installed: the way of an injected worker.
        python = os.environ.get("WORKER_TEST_PYTHON", sys.executable)
        if python != sys.executable:
            env["PYTHONPATH"] = str(SOURCE)
        command = build_command("everything", weights, concurrency, pool, python=python, host=host)
        process = start_process(command, env=env, cwd=APP_FOLDER, log=self.folder / f"{host}.log")
        worker = Worker(self, process, host, health_file)
        self.workers.append(worker)
        self.wait_until_ready(worker)
        return worker

    def wait_until_ready(self, worker: Worker, timeout_seconds: float = 60) -> None:
        """Return once the worker consumes; the log in the error when it does not."""

        def ready() -> bool:
            if not worker.process.is_running:
                raise RuntimeError(f"the worker ended\n{worker.log()}")
            return " ready." in worker.log() and worker.heartbeat() is not None

        try:
            eventually_sync(ready, timeout_seconds)
        except AssertionError:
            raise RuntimeError(f"the worker is not ready\n{worker.log()}") from None

    # Tasks

    def send(
        self, task: str, *args: Any, attempt: int | None = 1, max_attempts: int | None = None, **options: Any
    ) -> str:
        """Send a task as the API does, or as a plain Celery producer does (`attempt=None`); returns its id."""
        headers = options.pop("headers", {})
        if attempt is not None:
            headers[_wire.HEADER_ATTEMPT] = attempt
        if max_attempts is not None:
            headers[_wire.HEADER_MAX_ATTEMPTS] = max_attempts
        name = task if "." in task or task in {"shared", "counted"} else f"everything.{task}"
        kwargs = options.pop("kwargs", {})
        return str(self.app.send_task(name, args, kwargs, headers=headers or None, **options).id)

    def publish_raw(self, body: bytes, headers: dict[str, Any], content_type: str = "application/json") -> None:
        """Send a message that no Celery would write."""
        with Connection(self.broker.url, connect_timeout=10) as connection, Producer(connection) as producer:
            producer.publish(
                body,
                exchange="",
                routing_key=self.queue,
                headers=headers,
                content_type=content_type,
                content_encoding="utf-8",
                correlation_id=headers.get("id"),
            )

    def result(self, task_id: str) -> AsyncResult:
        """The result as any Celery program sees it."""
        return AsyncResult(task_id, app=self.app)

    def touch(self, name: str) -> None:
        """Let a held task go on."""
        (self.traces / name).touch()

    def trace(self, name: str) -> list[str]:
        """What tasks wrote under this name."""
        path = self.traces / name
        return path.read_text().split() if path.exists() else []

    # Events

    def events(self, task_id: str, kind: str | None = "state") -> list[dict[str, Any]]:
        """Events of a task in the order of the stream."""
        found = (json.loads(fields[_wire.EVENT_FIELD]) for _, fields in self.redis.xrange(_wire.EVENTS_STREAM))
        return [event for event in found if event["id"] == task_id and kind in (None, event["kind"])]

    def states(self, task_id: str) -> list[str]:
        """States of a task in the order of the stream."""
        return [event["state"] for event in self.events(task_id)]

    def steps(self, task_id: str) -> list[str]:
        """States without `running`: on a busy machine a short task may last long enough to be announced."""
        return [state for state in self.states(task_id) if state != "running"]

    def live(self, task_id: str) -> dict[str, Any]:
        """The live state of a task: its newest event."""
        text = self.redis.hget(_wire.task_key(task_id), _wire.LIVE_EVENT)
        return {} if text is None else json.loads(text)

    def final(self, task_id: str, timeout_seconds: float = 30) -> dict[str, Any]:
        """Wait for the final state of a task and return that event."""
        return self.until(task_id, lambda event: event["state"] in FINAL, timeout_seconds)

    def until(
        self, task_id: str, wanted: Callable[[dict[str, Any]], bool] | str, timeout_seconds: float = 30
    ) -> dict[str, Any]:
        """Wait until the live state is the wanted one."""

        def probe() -> dict[str, Any] | None:
            event = self.live(task_id)
            is_wanted = event and (event["state"] == wanted if isinstance(wanted, str) else wanted(event))
            return event if is_wanted else None

        try:
            found = eventually_sync(probe, timeout_seconds)
        except AssertionError:
            logs = "\n".join(worker.log()[-3000:] for worker in self.workers)
            raise AssertionError(f"task {task_id}: {self.live(task_id)}\n{logs}") from None
        assert found is not None
        return found

    # Broker

    def unacknowledged(self, queue: str | None = None) -> int:
        """Messages that workers hold."""
        assert isinstance(self.broker, RabbitMQ)
        return int(self._queue_info(queue).get("messages_unacknowledged", 0))

    def ready(self, queue: str) -> int:
        """Messages that wait."""
        return int(self._queue_info(queue).get("messages_ready", 0))

    def depth(self) -> int:
        """Messages in the queue, in hand or not; asked of the queue itself."""
        if isinstance(self.broker, Valkey):
            with redis.Redis.from_url(self.broker.url) as client:
                return int(client.llen(self.queue)) + int(client.hlen(_wire.UNACKED_KEY_PREFIX + self.queue))
        info = self._queue_info()
        return int(info.get("messages", 0))

    def _queue_info(self, queue: str | None = None) -> dict[str, Any]:
        assert isinstance(self.broker, RabbitMQ)
        return dict(self.broker.management("GET", f"/api/queues/%2F/{queue or self.queue}"))

    def is_drained(self) -> bool:
        """Whether everything sent is acknowledged."""
        return self.depth() == 0


def wait_dead(process: ManagedProcess, timeout_seconds: float = 30) -> int:
    """Wait for a worker to end by itself; returns its exit code."""
    eventually_sync(lambda: not process.is_running, timeout_seconds)
    return int(process.popen.returncode)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
