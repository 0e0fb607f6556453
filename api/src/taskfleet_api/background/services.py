"""Background: composes and supervises the background services of one API replica."""

import os
import socket
import uuid

import structlog

from taskfleet_api.background.calling import Call, CallbackSender
from taskfleet_api.background.dead_letters import DeadLetterRecorder
from taskfleet_api.background.declaring import QueueDeclarer
from taskfleet_api.background.directory import QueueDirectory
from taskfleet_api.background.dispatcher import Dispatcher
from taskfleet_api.background.history import HistoryWriter
from taskfleet_api.background.monitor import QueueMonitor
from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.background.outbox import Outbox
from taskfleet_api.background.reclaiming import Reclaimer
from taskfleet_api.background.recorder import Recorder
from taskfleet_api.background.replicas import LANE_SEPARATOR, Replicas
from taskfleet_api.background.retention import Retention
from taskfleet_api.background.supervision import LoopHealth, Supervisor
from taskfleet_api.background.sweeping import DueSweeper, ExpirySweeper, LeaseSweeper
from taskfleet_api.background.tallies import Tallies
from taskfleet_api.background.ticking import ScheduleTicker
from taskfleet_api.brokers import DeadLetters, Publisher, Topology
from taskfleet_api.live import LiveStore
from taskfleet_api.live.unacked import UnackedMessages
from taskfleet_api.records import Records
from taskfleet_api.records.sampling import FINEST_SECONDS
from taskfleet_core.addresses import is_redis_url
from taskfleet_core.errors import UnavailableError
from taskfleet_core.statistics import StatisticsReader

__all__ = ["Background"]

log = structlog.get_logger()

DISPATCH_LANES = 4  # windows under way: one waits for confirms while the next is built and sent


class Background:
    """All background services. The caller opens records, publisher and live before and closes them after."""

    def __init__(
        self,
        *,
        records: Records,
        publisher: Publisher,
        topology: Topology,
        dead_letters: DeadLetters,
        statistics: StatisticsReader,
        live: LiveStore,
        broker_url: str,
        options: BackgroundOptions,
        call: Call | None = None,
    ) -> None:
        self._records = records
        self._live = live
        self._options = options
        self._dead_letters = dead_letters
        self.replicas = Replicas(live, options, f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        self.directory = QueueDirectory(records, live, options, lambda queue: self.monitor.has_workers(queue))
        self.declarer = QueueDeclarer(topology, self.directory)
        self.monitor = QueueMonitor(self._own_queues, statistics, live, options)
        self._tallies = Tallies()
        self._outbox = Outbox(publisher, live, self.monitor, self.declarer)
        self.dispatcher = Dispatcher(records, self._outbox, options)
        self._callbacks = CallbackSender(records, call, options) if call is not None else None
        is_redis = is_redis_url(broker_url)
        self._unacked = UnackedMessages(broker_url) if is_redis else None
        self._supervisor = Supervisor(
            backoff_first_seconds=options.backoff_first_seconds, backoff_max_seconds=options.backoff_max_seconds
        )

    async def start(self) -> None:
        """Load the directory (SQL copy first) and start all loops; does not wait for broker or Redis."""
        try:
            await self.directory.refresh()
        except UnavailableError as error:
            log.warning("directory_incomplete", error=str(error))
        self._start_publishing()
        self._start_recording()
        self._start_sweeping()

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Stop all loops; the dispatcher first gets `grace_seconds` to publish and mark what it holds."""
        await self._supervisor.stop(
            "schedules",
            "sweeper-due",
            "sweeper-expired",
            "sweeper-lease",
            "retention",
            "history",
            "callbacks",
            "callback-review",
        )
        if not await self.dispatcher.drain(grace_seconds):
            log.info("dispatch_left_to_sweeper", tasks=self.dispatcher.waiting)
        if self._callbacks is not None:
            await self._callbacks.close(grace_seconds)
        await self._supervisor.stop()
        await self.replicas.leave()
        if self._unacked is not None:
            await self._unacked.close()

    def health(self) -> dict[str, LoopHealth]:
        """Get the health of every loop by name."""
        return self._supervisor.health()

    def _own_queues(self) -> list[str]:
        """The queues at the API's own broker."""
        known = (self.directory.get(name) for name in self.directory.names())
        return [queue.name for queue in known if queue is not None and not queue.scale_only]

    def _start_publishing(self) -> None:
        start, options = self._supervisor.start, self._options
        start("directory", self.directory.step, interval_seconds=options.directory_interval_seconds)
        start("declarations", self.declarer.step)
        for lane in range(DISPATCH_LANES):
            start(f"dispatcher-{lane}", self.dispatcher.publish_step)
        start("dispatcher-marks", self.dispatcher.mark_step)
        start("wake-hints", self._outbox.wake_step)
        start("monitor", self.monitor.step, interval_seconds=options.monitor_interval_seconds)

    def _start_recording(self) -> None:
        options = self._options
        start, process = self._supervisor.start, self.replicas.process + LANE_SEPARATOR
        # Never long silent after an outage of the store: the others would take this replica for dead.
        interval = options.beat_interval_seconds
        start("replicas", self.replicas.step, interval_seconds=interval, backoff_max_seconds=interval)
        for lane in range(options.recorder_lanes):
            recorder = Recorder(self._records, self._live, options, self._tallies, consumer=f"{process}{lane}")
            start(f"recorder-{lane}", recorder.step)
        successor = Recorder(self._records, self._live, options, self._tallies, consumer=f"{process}takeover")
        start(
            "recorder-takeover",
            lambda: successor.take_over_step(self.replicas),
            interval_seconds=options.takeover_interval_seconds,
        )
        reclaimer = Recorder(self._records, self._live, options, self._tallies, consumer=f"{process}reclaim")
        start("recorder-reclaim", reclaimer.reclaim_step, interval_seconds=options.reclaim_interval_seconds)
        handler = DeadLetterRecorder(self._records, self._live, self._tallies)

        async def read_dead_letters() -> float:
            await self._dead_letters.run(self._own_queues, handler.handle)
            return options.sweep_interval_seconds

        start("dead-letters", read_dead_letters, endless=True)

    def _start_sweeping(self) -> None:
        options, start = self._options, self._supervisor.start
        due = DueSweeper(self._records, self._outbox, self._live, options)
        expiry = ExpirySweeper(self._records, self._live, options)
        lease = LeaseSweeper(self._records, self._live, self.directory, self.monitor, options)
        ticker = ScheduleTicker(self._records, self.dispatcher, self.directory, options)
        retention = Retention(self._records, options)
        start("sweeper-due", due.step, interval_seconds=options.sweep_interval_seconds)
        start("sweeper-expired", expiry.step, interval_seconds=options.sweep_interval_seconds)
        start("sweeper-lease", lease.step, interval_seconds=options.lease_interval_seconds)
        start("schedules", ticker.step, interval_seconds=options.schedule_interval_seconds)
        start("retention", retention.step, interval_seconds=options.retention_interval_seconds)
        if options.history_days > 0:
            history = HistoryWriter(self._records, self._live, self.directory, self.monitor, self._tallies)
            start("history", history.step, interval_seconds=FINEST_SECONDS)
        if self._callbacks is not None:
            start("callbacks", self._callbacks.step, interval_seconds=options.callback_interval_seconds)
            start("callback-review", self._callbacks.review_step, interval_seconds=options.callback_review_seconds)
        if self._unacked is not None:
            reclaimer = Reclaimer(self._unacked, self._live, self.directory, options)
            start("unacked-reclaimer", reclaimer.step, interval_seconds=options.unacked_interval_seconds)
