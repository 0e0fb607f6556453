"""The whole product as real processes: broker, database, Valkey, API replicas and Celery workers.

`Stack` starts, kills (kill -9) and restarts each part. The fixture `stack` runs on {RabbitMQ 4.3, PostgreSQL}, lives as
long as the session and starts workers on demand.
"""

import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from taskfleet_core import wire
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.processes import ManagedProcess, free_port, start_process
from tests.support.waiting import eventually_sync

__all__ = ["API_PREFIX", "QueueOptions", "Stack", "StackOptions", "Worker", "running_stack", "stack"]

API_PREFIX = "/api/v1"
WORKER_APP_DIRECTORY = Path(__file__).parent / "workerapp"
LOG_TAIL_BYTES = 6000
API_READY_SECONDS = 120
WORKER_READY_SECONDS = 120


@dataclass(frozen=True)
class StackOptions:
    """What a stack is made of. `broker`: 4.3 | 3.10 | valkey; `database`: postgresql | mariadb | sqlite."""

    broker: str = "4.3"
    database: str = "postgresql"
    replicas: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)  # TASKFLEET_API_* without the prefix
    variables: Mapping[str, str] = field(default_factory=dict)  # for API processes as they stand
    valkey_args: tuple[str, ...] = ()


@dataclass(frozen=True)
class QueueOptions:
    """The limits of a queue as its TaskQueue would set them."""

    max_task_seconds: float = 60
    delivery_limit: int = 5
    pool: str = "prefork"
    concurrency: int = 2
    namespace: str = "default"


@dataclass
class Worker:
    """One worker process, what stands in for a pod."""

    host: str
    queue: str
    process: ManagedProcess


@dataclass
class _Api:
    port: int
    process: ManagedProcess | None = None


class Stack:
    """All parts of one installation; not shared between threads."""

    def __init__(self, options: StackOptions | None = None) -> None:
        self.options = options or StackOptions()
        self.directory = Path(tempfile.mkdtemp(prefix="taskfleet-stack-"))
        self.valkey = Valkey(args=self.options.valkey_args)
        self.broker = self.valkey if self.options.broker == "valkey" else RabbitMQ(self.options.broker)
        self.database = _build_database(self.options.database)
        self.workers: list[Worker] = []
        self.queues: dict[str, QueueOptions] = {}
        self._apis: list[_Api] = []
        self._worker_count = 0
        self._exit = contextlib.ExitStack()

    # --- the whole -------------------------------------------------------------------------------------------

    def start(self, *, api: bool = True) -> "Stack":
        """Start every server side by side, then the API replicas."""
        parts = [part for part in {id(p): p for p in (self.valkey, self.broker, self.database)}.values() if part]
        with ThreadPoolExecutor(len(parts)) as pool:
            for started in [pool.submit(part.start) for part in parts]:
                started.result()
        self.database_url = _prepare_database(self.options.database, self.database, self.directory)
        if api:
            for _ in range(self.options.replicas):
                self.add_api()
        return self

    def stop(self) -> None:
        """Stop everything and delete all data and logs."""
        self._exit.close()
        self.stop_workers(kill=True)
        for api in self._apis:
            if api.process is not None:
                api.process.kill()
        for part in (self.broker, self.valkey, self.database):
            if part is not None:
                part.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log_tails(self) -> list[tuple[str, str]]:
        """(title, end of the log) of each process, for the report of a failed test."""
        logs = sorted(self.directory.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return [(f"log of {path.stem}", _tail(path)) for path in logs[-12:]]

    # --- API replicas ------------------------------------------------------------------------------------------

    @property
    def base_url(self) -> str:
        """Address of the first API replica."""
        return self.url_of(0)

    def url_of(self, replica: int) -> str:
        """Address of one API replica."""
        return f"http://127.0.0.1:{self._apis[replica].port}"

    def api_process(self, replica: int = 0) -> ManagedProcess:
        """The running process of one replica."""
        process = self._apis[replica].process
        assert process is not None
        return process

    def add_api(self, *, wait: bool = True, variables: Mapping[str, str] | None = None, **environment: str) -> int:
        """Start one more replica; returns its number."""
        self._apis.append(_Api(free_port()))
        number = len(self._apis) - 1
        self.start_api(number, wait=wait, variables=variables, **environment)
        return number

    def start_api(
        self, replica: int = 0, *, wait: bool = True, variables: Mapping[str, str] | None = None, **environment: str
    ) -> None:
        """Start a replica (again) on its port; `environment` holds TASKFLEET_API_* without the prefix."""
        api = self._apis[replica]
        api.process = start_process(
            [sys.executable, "-m", "taskfleet_api"],
            env={**self.api_environment(api.port, **environment), **(variables or {})},
            cwd=self.directory,
            log=self.directory / f"api-{replica}.log",
            ready=(lambda: self._serves(replica)) if wait else None,
            timeout_seconds=API_READY_SECONDS,
        )

    def kill_api(self, replica: int = 0) -> None:
        """kill -9 of one replica."""
        self.api_process(replica).kill()
        self._apis[replica].process = None

    def stop_api(self, replica: int = 0) -> int:
        """SIGTERM, as a rollout does; returns the exit code."""
        code = self.api_process(replica).terminate()
        self._apis[replica].process = None
        return code

    def restart_api(self, replica: int = 0) -> None:
        """kill -9, then start on the same port."""
        self.kill_api(replica)
        self.start_api(replica)

    def api_environment(self, port: int, **extra: str) -> dict[str, str]:
        """The environment of an API process on this stack."""
        values = {
            "host": "127.0.0.1",
            "port": str(port),
            "database_url": self.database_url,
            "redis_url": self.valkey.url,
            "broker_url": self.broker_url,
            **({"broker_management_url": self.broker.management_url} if isinstance(self.broker, RabbitMQ) else {}),
            **self.options.environment,
            **extra,
        }
        named = {f"TASKFLEET_API_{name.upper()}": value for name, value in values.items()}
        return {**named, **self.options.variables}

    def client(self, replica: int = 0, **options: Any) -> httpx.Client:
        """A client of one replica, closed with the stack."""
        options.setdefault("timeout", 65)
        options.setdefault("headers", self._headers)
        client = httpx.Client(base_url=self.url_of(replica), trust_env=False, **options)
        return self._exit.enter_context(client)

    @property
    def _headers(self) -> dict[str, str]:
        """What every request needs, if the stack asks for a key."""
        key = self.options.environment.get("admin_key")
        return {"Authorization": f"Bearer {key}"} if key else {}

    # --- queues ------------------------------------------------------------------------------------------------

    @property
    def broker_url(self) -> str:
        """URL for publishers and workers."""
        return self.broker.url

    def add_queue(self, name: str, options: QueueOptions | None = None) -> None:
        """Declare the queue at the broker and announce it in the registry, as the operator and local mode do."""
        self.queues[name] = options or QueueOptions()
        asyncio.run(asyncio.wait_for(self._declare(name), 30))
        self.register(name)
        for number, api in enumerate(self._apis):
            if api.process is not None:
                eventually_sync(lambda n=number: self._knows_queue(n, name), 15, interval_seconds=0.1)

    def register(self, name: str) -> None:
        """Write the queue's registration, again if the store lost it."""
        options = self.queues[name]
        registration = {
            "schema": wire.SCHEMA_VERSION,
            "namespace": options.namespace,
            "name": name,
            "queueName": name,
            "uid": f"uid-{name}",
            "broker": "default",
            "limits": {
                "maxTaskSeconds": options.max_task_seconds,
                "pool": options.pool,
                "concurrency": options.concurrency,
                "deliveryLimit": options.delivery_limit,
                "deadLetter": True,
                "minReplicas": 0,
                "maxReplicas": 10,
            },
            "at": time.time(),
        }
        self.valkey.command("HSET", wire.REGISTRY_KEY, name, json.dumps(registration))

    async def _declare(self, name: str) -> None:
        from taskfleet_api.brokers import QueueSpec, open_topology

        options = self.queues[name]
        management = self.broker.management_url if isinstance(self.broker, RabbitMQ) else None
        topology = open_topology(self.broker_url, management_url=management)
        try:
            await topology.ensure_queue(
                QueueSpec(
                    name=name,
                    delivery_limit=options.delivery_limit,
                    dead_letter=True,
                    consumer_timeout_seconds=options.max_task_seconds + 60,
                )
            )
        finally:
            await topology.close()

    def _serves(self, replica: int) -> bool:
        return _answers(self.url_of(replica) + "/livez")

    def _knows_queue(self, replica: int, name: str) -> bool:
        url = f"{self.url_of(replica)}{API_PREFIX}/queues"
        answer = httpx.get(url, timeout=5, trust_env=False, headers=self._headers)
        return answer.status_code == 200 and name in answer.text

    # --- workers -----------------------------------------------------------------------------------------------

    def start_worker(
        self,
        queue: str,
        *,
        app: str = "jobs:app",
        cwd: Path = WORKER_APP_DIRECTORY,
        concurrency: int | None = None,
        pool: str | None = None,
        wait: bool = True,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        grace_seconds: float = 30,
    ) -> Worker:
        """Start one worker process of a plain Celery app with our environment; waits for its first heartbeat."""
        from taskfleet_worker.environment import build_command

        options = self.queues[queue]
        self._worker_count += 1
        host = f"{queue}-{self._worker_count}"
        environment = self.worker_environment(queue, host, grace_seconds)
        command = build_command(
            app, queue, concurrency or options.concurrency, pool or options.pool, python=sys.executable, host=host
        )
        process = start_process(
            [*command, *arguments],
            env={**environment, "PYTHONPATH": _python_path(cwd, environment), **(env or {})},
            cwd=cwd,
            log=self.directory / f"worker-{host}.log",
            ready=(lambda: self._beats(queue, host)) if wait else None,
            timeout_seconds=WORKER_READY_SECONDS,
        )
        worker = Worker(host, queue, process)
        self.workers.append(worker)
        return worker

    def worker_environment(self, queue: str, host: str, grace_seconds: float) -> dict[str, str]:
        """The environment of a worker process on this stack."""
        from taskfleet_worker.environment import build_environment

        options = self.queues[queue]
        return build_environment(
            queue=queue,
            broker_url=self.worker_broker_url,
            redis_url=self.worker_redis_url,
            max_task_seconds=options.max_task_seconds,
            grace_seconds=grace_seconds,
            delivery_limit=options.delivery_limit,
            host=host,
        )

    @property
    def worker_broker_url(self) -> str:
        """The broker as workers reach it."""
        return self.broker_url

    @property
    def worker_redis_url(self) -> str:
        """Valkey as workers reach it."""
        return self.valkey.url

    def ensure_worker(self, queue: str, options: QueueOptions | None = None, **worker: Any) -> None:
        """Make sure that the queue exists and that at least one worker consumes from it."""
        if queue not in self.queues:
            self.add_queue(queue, options)
        if not any(w.queue == queue and w.process.is_running for w in self.workers):
            self.start_worker(queue, **worker)

    def stop_workers(self, queue: str | None = None, *, kill: bool = False) -> None:
        """Stop the workers of a queue, or all: SIGTERM, or kill -9."""
        for worker in [w for w in self.workers if queue in (None, w.queue)]:
            worker.process.kill() if kill else worker.process.terminate(40)
            self.workers.remove(worker)

    def _beats(self, queue: str, host: str) -> bool:
        return self.valkey.command("EXISTS", wire.worker_key(queue, host)) == b":1"


def _python_path(cwd: Path, environment: Mapping[str, str]) -> str:
    return ":".join(path for path in (str(cwd), environment.get("PYTHONPATH", "")) if path)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")


def _build_database(kind: str) -> Any:
    from tests.support import databases

    factories: dict[str, Callable[[], Any]] = {
        "postgresql": databases.PostgreSQL,
        "mariadb": databases.MariaDB,
        "sqlite": lambda: None,
    }
    return factories[kind]()


def _prepare_database(kind: str, database: Any, directory: Path) -> str:
    if kind == "sqlite":
        return f"sqlite:///{directory / 'records.sqlite3'}"
    return str(database.url)


@contextlib.contextmanager
def running_stack(options: StackOptions) -> Iterator[Stack]:
    """A stack for the length of a with block."""
    made = Stack(options)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """RabbitMQ 4.3 and PostgreSQL with two API replicas, shared by the session."""
    with running_stack(StackOptions(replicas=2)) as made:
        yield made
