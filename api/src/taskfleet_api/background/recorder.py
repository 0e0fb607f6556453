"""Recorder: applies the event stream to the records; an entry leaves the stream only after its commit."""

import time
from collections.abc import Sequence

import structlog

from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.background.replicas import Replicas, get_process
from taskfleet_api.background.tallies import Tallies
from taskfleet_api.live import LiveStore, StreamEntry
from taskfleet_api.records import Records
from taskfleet_api.telemetry import counter, gauge, histogram
from taskfleet_core.errors import UnavailableError
from taskfleet_core.events import TaskEvent
from taskfleet_core.states import TaskState

__all__ = ["Recorder"]

log = structlog.get_logger()

IDLE_CONSUMER_SECONDS = 3600.0
UNREADABLE_SHOWN = 300  # characters of an entry nobody can read


class Recorder:
    """One consumer of the recorder group. Applying is idempotent, so every doubt is settled by doing it again."""

    def __init__(
        self, records: Records, live: LiveStore, options: BackgroundOptions, tallies: Tallies, *, consumer: str
    ) -> None:
        self._records = records
        self._live = live
        self._options = options
        self._tallies = tallies
        self._consumer = consumer
        self._unfinished: list[StreamEntry] = []
        self._lacks_answer = False  # of a takeover: what it brought is held under this consumer's name

    async def step(self) -> float:
        """Read, apply, acknowledge one batch; what was read and not finished comes first."""
        if not self._unfinished:
            self._unfinished = await self._live.read_events(
                self._consumer, limit=self._options.recorder_batch, block_seconds=self._options.recorder_block_seconds
            )
        return await self._finish()

    async def take_over_step(self, replicas: Replicas) -> float:
        """Take over and apply what dead replicas had read and not recorded, and remove what is left of them.

        One that only seemed dead records the same once more when it goes on, which changes nothing.
        """
        if not self._unfinished:
            self._unfinished = await self._take_over(replicas)
        if not self._unfinished:
            return self._options.takeover_interval_seconds
        return await self._finish()

    async def _take_over(self, replicas: Replicas) -> list[StreamEntry]:
        """Some entries of a dead replica; none when no dead one holds any."""
        if self._lacks_answer and (entries := await self._claim(self._consumer)):
            return entries
        consumers = [(name, get_process(name)) for name in await self._live.fetch_consumers()]
        dead = replicas.find_dead({process for _, process in consumers if process is not None})
        for name, process in consumers:
            if process in dead:
                entries = await self._claim(name)
                if entries:
                    log.info("events_taken_over", entries=len(entries), consumer=name)
                    return entries
        for process in dead:
            await replicas.forget(process)
        return []

    async def _claim(self, consumer: str) -> list[StreamEntry]:
        self._lacks_answer = True
        entries = await self._live.take_over_events(consumer, self._consumer, limit=self._options.recorder_batch)
        self._lacks_answer = False
        return entries

    async def reclaim_step(self) -> float:
        """Take over and apply what a living replica (this one, too) left in a failed moment."""
        if not self._unfinished:
            self._unfinished = await self._live.reclaim_events(
                self._consumer, idle_seconds=self._options.reclaim_idle_seconds, limit=self._options.recorder_batch
            )
        if self._unfinished:
            log.info("events_reclaimed", entries=len(self._unfinished))
            return await self._finish()
        await self._live.remove_idle_consumers(IDLE_CONSUMER_SECONDS)
        return self._options.reclaim_interval_seconds

    async def _finish(self) -> float:
        """Record what was read, which is kept for the next step when that fails; then there may be more at once."""
        await self._record(self._unfinished)
        self._unfinished = []
        return 0.0

    async def _record(self, entries: Sequence[StreamEntry]) -> None:
        if not entries:
            return
        newer = [entry for entry in entries if entry.is_newer_schema]
        if newer:  # left for a replica of the next release; it claims them once they have been idle
            log.warning("events_of_newer_release", entries=len(newer))
        readable = [entry.event for entry in entries if entry.event is not None]
        for entry in entries:
            if entry.event is None and not entry.is_newer_schema:
                log.error("event_unreadable", entry_id=entry.entry_id, text=(entry.raw or "")[:UNREADABLE_SHOWN])
                counter("taskfleet_recorder_events_total").labels("unreadable").inc()
        if readable:
            await self._apply(readable)
        await self._live.ack_events([entry.entry_id for entry in entries if not entry.is_newer_schema])

    async def _apply(self, events: list[TaskEvent]) -> None:
        """Apply together; a batch that the database refuses is halved until only the refused event is left out."""
        try:
            result = await self._records.apply_events(events)
        except UnavailableError:
            raise
        except Exception:
            if len(events) == 1:
                log.exception("event_refused", task_id=events[0]["id"], state=events[0]["state"])
                counter("taskfleet_recorder_events_total").labels("unreadable").inc()
                return
            middle = len(events) // 2
            await self._apply(events[:middle])
            await self._apply(events[middle:])
            return
        counter("taskfleet_recorder_events_total").labels("unreadable").inc(result.malformed)
        applied = {str(task_id) for task_id in result.applied}
        self._measure(events, applied, {str(task_id) for task_id in result.finished})
        queues = {event["id"]: event["queue"] for event in events} if result.waits else {}
        for task_id, seconds in result.waits:
            histogram("taskfleet_task_wait_seconds").labels(queues[str(task_id)]).observe(seconds)
            self._tallies.note_wait(queues[str(task_id)], seconds)

    def _measure(self, events: list[TaskEvent], applied: set[str], finished: set[str]) -> None:
        """The workers' metrics, once per attempt: only what changed a record counts."""
        news = sum(1 for event in events if event["id"] in applied)
        counter("taskfleet_recorder_events_total").labels("applied").inc(news)
        counter("taskfleet_recorder_events_total").labels("stale").inc(len(events) - news)
        gauge("taskfleet_recorder_lag_seconds").set(max(0.0, time.time() - events[-1]["at"]))
        for event in events:
            ended = event["id"] in finished and TaskState(event["state"]).is_final
            if ended or (event.get("ends_attempt") and event["id"] in applied):
                finished.discard(event["id"])
                counter("taskfleet_tasks_finished_total").labels(event["queue"], event["state"]).inc()
                self._tallies.note_end(event["queue"], event["state"])
                if "runtime_seconds" in event:
                    histogram("taskfleet_task_run_seconds").labels(event["queue"]).observe(event["runtime_seconds"])
