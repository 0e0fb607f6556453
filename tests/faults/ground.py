"""Where faults strike: a stack whose parts reach one another through proxies, each with a clock to be set if wanted."""

import asyncio
import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.generator import QUEUE
from tests.faults.servers import SmallDiskPostgreSQL, start_names, start_together
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.processes import ManagedProcess, children_of
from tests.support.proxies import Proxy
from tests.support.stack import QueueOptions, Stack, StackOptions, Worker

__all__ = ["LINKS", "FaultStack", "GroundOptions", "open_ground"]

LINKS = ("API to database", "API to broker", "API to Valkey", "worker to broker", "worker to Valkey", "client to API")
# Shorter than the defaults, so that a cell takes less than a minute; the rules are the same.
SETTINGS = {"republish_grace_seconds": "2", "lease_quiet_seconds": "5", "log_level": "info"}
WORKERS = 2
SECONDS = 10  # for one order to the proxies
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@dataclass(frozen=True)
class GroundOptions:
    """What differs from one RabbitMQ 4.3, PostgreSQL and a Valkey that has every write on disk."""

    broker_nodes: int = 1
    appendonly: bool = True
    small_disk: bool = False
    replicas: int = 1  # of the API; clients reach the first one that listens


class Links:
    """The proxies between the parts, in an event loop of their own; callable from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()
        self._proxies: dict[str, list[Proxy]] = {}

    def open(self, link: str, *ports: int) -> int:
        """One more proxy of this link to the first of these ports that listens; its port."""

        async def enter() -> Proxy:
            return await Proxy(*ports).__aenter__()

        proxy = asyncio.run_coroutine_threadsafe(enter(), self._loop).result(SECONDS)
        self._proxies.setdefault(link, []).append(proxy)
        return proxy.port

    def tell(self, link: str, order: Callable[[Proxy], None]) -> None:
        """Give all proxies of a link an order."""

        async def give() -> None:
            for proxy in self._proxies[link]:
                order(proxy)

        asyncio.run_coroutine_threadsafe(give(), self._loop).result(SECONDS)

    def mend(self, link: str) -> None:
        """As without a fault."""
        self.tell(link, _mend)

    def close(self) -> None:
        """Close everything."""

        async def leave() -> None:
            for proxy in (each for link in self._proxies.values() for each in link):
                await proxy.__aexit__(None, None, None)

        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(leave(), self._loop).result(SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()


def _mend(proxy: Proxy) -> None:
    proxy.refusing, proxy.delay_seconds = False, 0.0
    proxy.thaw()


class FaultStack(Stack):
    """A stack to be struck. Every fault leaves all parts running again."""

    def __init__(self, options: GroundOptions) -> None:
        super().__init__(StackOptions(environment=SETTINGS))
        self.ground = options
        self.links = Links()
        self.nodes: list[RabbitMQ] = []
        self._names: ManagedProcess | None = None  # of Erlang nodes
        self._clocks: dict[str, Path] = {}
        self._sleeping = self.directory / "sleeping.so"
        self._groups: list[Path] = []
        if not options.appendonly:
            self.valkey = Valkey(appendonly=False)
        if options.small_disk:
            self.database = SmallDiskPostgreSQL()
        if options.broker_nodes > 1:
            self._names, self.nodes = start_names(options.broker_nodes)
            self.broker = self.nodes[0]
        else:
            self.nodes = [self.broker]

    def start(self, *, api: bool = True) -> "FaultStack":
        with ThreadPoolExecutor(3) as pool:
            for started in [
                pool.submit(self.valkey.start),
                pool.submit(start_together, self.nodes),
                pool.submit(self.database.start),
            ]:
                started.result()
        self._open_links()
        if api:
            for _ in range(self.ground.replicas):
                self.add_api()
            self._submit_port = self.links.open("client to API", *(each.port for each in self._apis))
        return self

    def stop(self) -> None:
        super().stop()
        for node in self.nodes[1:]:
            node.stop()
        if self._names is not None:
            self._names.kill()
        self.links.close()
        for group in self._groups:
            with contextlib.suppress(OSError):
                group.rmdir()

    # --- how the parts reach one another -------------------------------------------------------------------------

    def _open_links(self) -> None:
        amqp, management = [n.port for n in self.nodes], [n.management_port for n in self.nodes]
        self.database_url = _through(str(self.database.url), self.links.open("API to database", self.database.port))
        self._api_urls = {
            "redis_url": _through(self.valkey.url, self.links.open("API to Valkey", self.valkey.port)),
            "broker_url": _through(self.broker.url, self.links.open("API to broker", *amqp)),
            "broker_management_url": _through(
                self.broker.management_url, self.links.open("API to broker", *management)
            ),
        }
        self._worker_broker_url = _through(self.broker.url, self.links.open("worker to broker", *amqp))
        self._worker_redis_url = _through(self.valkey.url, self.links.open("worker to Valkey", self.valkey.port))

    @property
    def submit_url(self) -> str:
        """The API as the load reaches it."""
        return f"http://127.0.0.1:{self._submit_port}"

    @property
    def worker_broker_url(self) -> str:
        return self._worker_broker_url

    @property
    def worker_redis_url(self) -> str:
        return self._worker_redis_url

    def api_environment(self, port: int, **extra: str) -> dict[str, str]:
        values = super().api_environment(port, **{**self._api_urls, **extra})
        return {**values, **self.clock_of("API")}

    def worker_environment(self, queue: str, host: str, grace_seconds: float) -> dict[str, str]:
        return {**super().worker_environment(queue, host, grace_seconds), **self.clock_of("worker")}

    # --- clocks --------------------------------------------------------------------------------------------------

    def give_clock(self, part: str) -> None:
        """From its next start on the part has a clock of its own, which is right at first."""
        self._clocks[part] = self.directory / f"clock-of-{part}"
        self.directory.chmod(0o755)  # the database runs as another user
        if not self._sleeping.exists():
            command = [
                "gcc",
                "-shared",
                "-fPIC",
                "-o",
                str(self._sleeping),
                str(Path(__file__).with_name("sleeping.c")),
            ]
            subprocess.run(command, check=True, timeout=60)
        self.step_clock(part, 0)

    def step_clock(self, part: str, seconds: int) -> None:
        """The part's clock is so many seconds off from now on; the machine's never is."""
        path = self._clocks[part]
        fresh = path.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        fresh.chmod(0o644)
        os.replace(fresh, path)

    def take_clock(self, part: str) -> None:
        """From its next start on the part has the machine's clock."""
        self._clocks.pop(part, None)

    def clock_of(self, part: str) -> dict[str, str]:
        """Variables for a process of the part."""
        if part not in self._clocks:
            return {}
        return {
            "LD_PRELOAD": f"{self._sleeping}:{FAKETIME}",
            "FAKETIME_TIMESTAMP_FILE": str(self._clocks[part]),
            "FAKETIME_CACHE_DURATION": "1",  # seconds: a file read at each look at the clock would slow a worker down
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    # --- workers -------------------------------------------------------------------------------------------------

    def children_of(self, worker: Worker) -> list[int]:
        """The prefork pool's processes."""
        return children_of(worker.process.pid)

    def replace_worker(self, worker: Worker, *, wait: bool = True) -> None:
        """Forget a worker that is gone and start another one."""
        worker.process.kill()
        self.workers.remove(worker)
        self.start_worker(QUEUE, wait=wait)

    def limit_memory(self, worker: Worker, mebibytes: int) -> None:
        """The kernel kills a process of this worker when all of them together take more. Needs cgroup v1 and root."""
        group = Path(f"/sys/fs/cgroup/memory/{self.directory.name}-{worker.host}")
        group.mkdir()
        self._groups.append(group)
        (group / "memory.limit_in_bytes").write_text(str(mebibytes * 2**20))
        for pid in [worker.process.pid, *self.children_of(worker)]:
            (group / "cgroup.procs").write_text(str(pid))


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return url.replace(f"127.0.0.1:{parts.port}", f"127.0.0.1:{port}", 1)


@contextlib.contextmanager
def open_ground(options: GroundOptions | None = None) -> Iterator[FaultStack]:
    """A stack of its own, to be struck, with two prefork workers."""
    stack = FaultStack(options or GroundOptions())
    try:
        stack.start()
        stack.add_queue(QUEUE, QueueOptions(concurrency=2, delivery_limit=20))
        for _ in range(WORKERS):
            stack.start_worker(QUEUE)
        yield stack
    finally:
        stack.stop()
