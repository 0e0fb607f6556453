"""The running whole: services, queues under control, registry and wake-ups. `running` starts and stops it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import httpx

from taskfleet.local.controlling import QueueController
from taskfleet.local.files import FileWatch, LoadedQueue
from taskfleet.local.journal import Journal
from taskfleet.local.launching import FLOWER_PORT, Launcher, describe_environment_gaps
from taskfleet.local.limiting import limit_workers
from taskfleet.local.options import Folders, UpOptions
from taskfleet.local.processes import Child
from taskfleet.local.references import load_option_queues
from taskfleet.local.registry import Registry
from taskfleet.local.services import Service
from taskfleet.local.store import LocalStore
from taskfleet.local.valkey import EmbeddedValkey
from taskfleet.local.workers import WorkerPool
from taskfleet_core.ending import end_tasks
from taskfleet_core.errors import InvalidInputError, TaskfleetError, UnavailableError
from taskfleet_core.events import Heartbeat
from taskfleet_core.scaling import Decision, build_report
from taskfleet_core.schedules import apply_schedules
from taskfleet_core.statistics import open_statistics, sum_statistics

__all__ = ["Fleet"]

INTERVAL_SECONDS = 1.0
DRAIN_INTERVAL_SECONDS = 0.2
STORE_START_SECONDS = 20.0
LOOP_PAUSE_SECONDS = 1.0
API_STOP_SECONDS = 20.0
PROBE_TIMEOUT_SECONDS = 2.0
SERVICE_TASK = "service"


class Fleet:
    """Everything of one `taskfleet up`. `start`, then `run` until cancelled, then `drain` and `stop`."""

    def __init__(self, options: UpOptions, folders: Folders, queues: Sequence[LoadedQueue], journal: Journal) -> None:
        self.options, self.folders, self.journal = options, folders, journal
        self.started_at = time.monotonic()
        self.ready_after_seconds: float | None = None
        self.controllers: dict[str, QueueController] = {}
        self.services: list[Service] = []
        self.is_draining = False
        self.file_problem: str | None = None
        valkey = (
            EmbeddedValkey(folders.valkey, folders.logs / "valkey.log", folders.root) if options.needs_valkey else None
        )
        own_url = valkey.url if valkey else ""
        broker_url = options.broker_url or options.redis_url or own_url
        redis_url = options.redis_url or (own_url if valkey else broker_url)
        self.launcher = Launcher(options, folders, broker_url=broker_url, redis_url=redis_url)
        self._queues = list(queues)
        self._store = LocalStore(redis_url)
        self._statistics = open_statistics(broker_url, options.broker_management_url, options.broker_metrics_url)
        self._registry = Registry(
            broker_url, options.broker_management_url, self._store, journal, owned=valkey is not None
        )
        self._watch = FileWatch(options.files)
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._http = httpx.AsyncClient(timeout=PROBE_TIMEOUT_SECONDS, trust_env=False)
        self._build_services(valkey)

    def _build_services(self, valkey: EmbeddedValkey | None) -> None:
        def add(name: str, start: Callable[[], Child], probe: Callable[[], Awaitable[bool]], stop: float) -> None:
            self.services.append(Service(name, start, probe, self.journal, stop_seconds=stop))

        if valkey:
            add("valkey", valkey.start, valkey.probe, 10.0)
        add("api", self.launcher.start_api, partial(self._probe_http, self.api_url + "/livez"), API_STOP_SECONDS)
        if self.options.flower:
            url = f"http://127.0.0.1:{FLOWER_PORT}/healthcheck"
            add("flower", self.launcher.start_flower, partial(self._probe_http, url), 5.0)

    @property
    def api_url(self) -> str:
        """Where the API answers, as seen from this machine."""
        host = self.options.host
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        return f"http://{host}:{self.options.port}"

    @property
    def queue_problems(self) -> dict[str, str]:
        """Why queues are not declared or not announced."""
        return self._registry.problems

    async def _probe_http(self, url: str) -> bool:
        try:
            return (await self._http.get(url)).status_code == 200
        except httpx.HTTPError:
            return False

    # --- start --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the store, then everything at once. Returns while services may still be starting."""
        for service in self.services:
            if service.name == "valkey":
                self._spawn(service.run(), SERVICE_TASK)
                await self._wait_for_store(service)
        for service in self.services:
            if service.name != "valkey":
                self._spawn(service.run(), SERVICE_TASK)
        self._set_queues(self._queues)
        self._spawn(self._run_forever("registry", self._registry.run))
        self._spawn(self._run_forever("control", self._control))
        self._spawn(self._run_forever("wake", self._listen))
        self._spawn(self._report_ready())

    def _spawn(self, work: Coroutine[None, None, None], name: str = "") -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _wait_for_store(self, service: Service) -> None:
        try:
            async with asyncio.timeout(STORE_START_SECONDS):
                await service.ready.wait()
        except TimeoutError as error:
            log = self.folders.logs / "valkey.log"
            raise UnavailableError(f"the embedded Valkey does not start: {service.problem}: see {log}") from error

    async def _report_ready(self) -> None:
        for service in self.services:
            if service.name != "flower":  # a view beside it, no part of the way of a task
                await service.ready.wait()
        await self._registry.complete.wait()
        self.ready_after_seconds = time.monotonic() - self.started_at
        self.journal.info("ready", url=self.api_url, seconds=round(self.ready_after_seconds, 2))

    def _set_queues(self, queues: Sequence[LoadedQueue]) -> None:
        """Make the controllers fit the files: new ones start, changed ones replace their workers, others leave."""
        wanted = {loaded.queue.queue_name: loaded for loaded in queues}
        for name, controller in self.controllers.items():
            if name not in wanted:
                controller.leaving = True
        for name, loaded in wanted.items():
            present = self.controllers.get(name)
            gaps = describe_environment_gaps(loaded.queue)
            if gaps and (present is None or present.queue != loaded.queue):
                self.journal.warning("environment_incomplete", queue=name, missing=", ".join(gaps))
            start = partial(self.launcher.start_worker, loaded.queue, loaded.file)
            if present is None:
                grace = loaded.queue.spec.worker.effective_grace_seconds
                pool = WorkerPool(loaded.queue.name, start, self.journal, grace_seconds=grace)
                self.controllers[name] = QueueController(loaded.queue, pool, self.journal)
            else:
                present.replace_queue(loaded.queue, start)
        self._registry.set_queues([loaded.queue for loaded in queues])

    # --- control ------------------------------------------------------------------------------------------------

    async def _run_forever(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step; a crash is told and the loop goes on."""
        while True:
            try:
                await step()
            except UnavailableError as error:
                self.journal.warning("loop_failed", loop=name, reason=str(error))
                await asyncio.sleep(LOOP_PAUSE_SECONDS)
            except Exception as error:  # a bug in one step must not stop scaling
                self.journal.warning("loop_failed", loop=name, reason=f"{type(error).__name__}: {error}")
                await asyncio.sleep(LOOP_PAUSE_SECONDS)

    async def _control(self) -> None:
        """Read everything once, decide and apply for each queue, wait for the next second or a wake-up."""
        started = time.monotonic()
        self._reload_files()
        await self._step()
        left = INTERVAL_SECONDS - (time.monotonic() - started)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.05, left)):
                await self._woken.wait()
        self._woken.clear()

    async def _step(self) -> None:
        names = [name for controller in self.controllers.values() for name in controller.queue.queue_weights]
        statistics, beats = await asyncio.gather(self._statistics.fetch(names), self._fetch_beats())
        now = datetime.now(UTC)
        decisions = {}
        for name, controller in self.controllers.items():
            scaling = controller.queue.spec.scaling
            spec = apply_schedules(controller.queue.build_scaling_spec(INTERVAL_SECONDS), scaling.schedules, now)
            own = None if beats is None else {host: beat for host, beat in beats.items() if beat["queue"] == name}
            figures = sum_statistics([statistics.get(each) for each in controller.queue.queue_weights])
            decisions[name] = controller.decide(figures, own, spec)
        if self.options.max_workers is not None:
            decisions = limit_workers(self.options.max_workers, self.controllers, decisions)
        for name, controller in list(self.controllers.items()):
            controller.apply(decisions[name])
            if controller.leaving and not controller.pool.workers:
                del self.controllers[name]
        await self._report(decisions)

    async def _report(self, decisions: Mapping[str, Decision]) -> None:
        """Best effort: scaling waits for no reader of its reasons."""
        reports = {
            queue: build_report(decision, at=time.time(), acting=self.controllers[name].scales)
            for name, decision in decisions.items()
            if name in self.controllers
            for queue in self.controllers[name].queue.queue_weights
        }
        with contextlib.suppress(UnavailableError):
            await self._store.write_decisions(reports)

    async def _fetch_beats(self) -> dict[str, Heartbeat] | None:
        try:
            return await self._store.fetch_heartbeats(
                (name, worker.host)
                for name, controller in self.controllers.items()
                for worker in controller.pool.workers
            )
        except TaskfleetError:
            return None

    def _reload_files(self) -> None:
        if not self._watch.has_changed():
            return
        try:
            queues = load_option_queues(self.options)
        except InvalidInputError as error:
            self.file_problem = str(error)
            self.journal.warning("files_refused", reason=str(error))
            return
        self.file_problem = None
        self._set_queues(queues)
        self.journal.info("files_loaded", queues=len(queues))

    async def _listen(self) -> None:
        """Wake-ups: the first task of a sleeping queue is acted on at once. The poll stays the truth."""
        async with contextlib.aclosing(self._store.listen_wakes()) as names:
            async for name in names:
                for controller in self.controllers.values():
                    if name in controller.queue.queue_weights and not controller.pool.staying:
                        controller.wake()
                        self._woken.set()

    # --- stop ---------------------------------------------------------------------------------------------------

    async def drain(self, hurry: asyncio.Event) -> None:
        """Let the workers finish what they have; `hurry` ends that. The API and the store go on meanwhile."""
        self.is_draining = True
        await self._cancel_tasks(keep_services=True)
        for controller in self.controllers.values():
            controller.pool.drain_all()
        while any(controller.pool.workers for controller in self.controllers.values()):
            if hurry.is_set():
                for controller in self.controllers.values():
                    controller.pool.kill_all()
            beats = await self._fetch_beats()
            for controller in self.controllers.values():
                controller.observe_draining(beats)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_INTERVAL_SECONDS):
                    await hurry.wait()
                await asyncio.sleep(DRAIN_INTERVAL_SECONDS / 4)

    async def _cancel_tasks(self, *, keep_services: bool) -> None:
        gone = [task for task in self._tasks if not (keep_services and task.get_name() == SERVICE_TASK)]
        await end_tasks(gone)
        self._tasks = [task for task in self._tasks if task not in gone]

    async def stop(self, *, hurry: bool) -> None:
        """Stop the services: the API first, the store last."""
        await self._cancel_tasks(keep_services=False)
        for controller in self.controllers.values():
            controller.pool.kill_all()
        for service in reversed(self.services):
            await service.stop(hurry=hurry)
        await self._registry.close()
        await self._statistics.close()
        await self._store.close()
        await self._http.aclose()
