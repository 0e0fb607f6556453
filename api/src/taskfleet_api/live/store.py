"""LiveStore: what the API reads and writes in Redis/Valkey.

Every call is bounded by a time limit and raises StoreUnavailableError; nothing here is the truth, SQL is.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, cast

from taskfleet_api.live.celery_results import RESULT_KEY_PREFIX, RESULT_TTL_SECONDS, build_celery_result
from taskfleet_api.live.client import open_client, open_connection, parse_event, parse_json
from taskfleet_api.live.hub import Hub
from taskfleet_api.live.rates import RateUse, SharedRates
from taskfleet_api.live.stream import EventStream, StreamEntry
from taskfleet_api.live.subscriptions import Subscription
from taskfleet_core import wire
from taskfleet_core.ending import end_task
from taskfleet_core.events import Heartbeat, QueueRegistration, TaskEvent
from taskfleet_core.scaling import DecisionReport
from taskfleet_core.store import guarded

__all__ = ["LiveState", "LiveStore", "StreamEntry"]

LIVE_STATE_TTL_SECONDS = 86_400
CANCELLED_TTL_SECONDS = 7 * 86_400
STATES_CHUNK = 500
MAX_LOSS_CHARACTERS = 500
TALLIES_TTL_SECONDS = 60
SCAN_SECONDS = 2.0  # how often heartbeats that no index names are looked for, while that is cheap
SCAN_PAUSE_FACTOR = 20.0  # a key space that takes long to walk is walked less often

# The worker's rule: never over a newer position, nor over an equal one unless both are `running`.
_ANNOUNCE = """
local old = tonumber(redis.call('HGET', KEYS[1], ARGV[5]) or '-1')
local new = tonumber(ARGV[1])
if new < old or (new == old and ARGV[4] ~= 'running') then return 0 end
redis.call('HSET', KEYS[1], ARGV[5], ARGV[1], ARGV[6], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('PUBLISH', ARGV[7], ARGV[2])
if ARGV[8] ~= '' then
  redis.call('SET', KEYS[2], ARGV[8], 'EX', ARGV[9])
  redis.call('PUBLISH', KEYS[2], ARGV[8])
end
return 1
"""


@dataclass(frozen=True, slots=True)
class LiveState:
    """The live state of one task: its newest state event and its newest progress event."""

    event: TaskEvent | None
    progress: TaskEvent | None


class LiveStore:
    """One process's access to Redis/Valkey. `start` never fails: without Redis, calls raise until it is back."""

    def __init__(self, url: str, *, timeout_seconds: float = 2.0) -> None:
        self._timeout = timeout_seconds
        self._client = open_client(url, timeout_seconds=timeout_seconds)
        self._stream = EventStream(url, timeout_seconds=timeout_seconds)
        self._announce = self._client.register_script(_ANNOUNCE)
        self._rates = SharedRates(self._client)
        self._hub = Hub(
            lambda: open_connection(url, timeout_seconds=timeout_seconds),
            self._fetch_events,
            timeout_seconds=timeout_seconds,
        )
        self._hub_task: asyncio.Task[None] | None = None
        self._scanned: set[str] = set()
        self._next_scan_at = float("-inf")

    async def start(self) -> None:
        """Start the shared pub/sub connection in the background."""
        self._hub_task = asyncio.create_task(self._hub.run(), name="live-subscriptions")

    async def close(self) -> None:
        """End subscriptions and close all connections."""
        if self._hub_task is not None:
            await end_task(self._hub_task)
        await self._stream.close()
        await self._client.aclose()

    async def ping(self) -> None:
        """Ask Redis for a sign of life; for readiness."""
        async with self._limit("asking Redis for a sign of life"):
            await self._client.ping()

    async def fetch_states(self, ids: Sequence[str]) -> dict[str, LiveState]:
        """Fetch the live states of the tasks that have one."""
        states: dict[str, LiveState] = {}
        for start in range(0, len(ids), STATES_CHUNK):
            chunk = ids[start : start + STATES_CHUNK]
            async with self._limit("fetching live states"):
                rows = await self._fetch_fields(chunk)
            for task_id, (event_text, progress_text) in zip(chunk, rows, strict=True):
                if event_text or progress_text:
                    states[task_id] = LiveState(parse_event(event_text), parse_event(progress_text))
        return states

    async def _fetch_fields(self, ids: Sequence[str]) -> list[list[str | None]]:
        async with self._client.pipeline(transaction=False) as pipe:
            for task_id in ids:
                pipe.hmget(wire.task_key(task_id), [wire.LIVE_EVENT, wire.LIVE_PROGRESS])
            return cast(list[list[str | None]], await pipe.execute())

    async def _fetch_events(self, ids: Sequence[str]) -> list[TaskEvent]:
        states = await self.fetch_states(ids)
        return [event for state in states.values() for event in (state.event, state.progress) if event is not None]

    async def fetch_loss(self, task_id: str, attempt: int) -> str:
        """How the process that ran this attempt last came to its end; empty when no worker noted it."""
        async with self._limit(f"fetching the last loss of task {task_id}"):
            noted = parse_json(await self._client.hget(wire.task_key(task_id), wire.LIVE_LOSS))
        is_ours = isinstance(noted, dict) and noted.get("attempt") == attempt
        return str(noted["message"])[:MAX_LOSS_CHARACTERS] if is_ours else ""

    def subscribe(self, ids: Iterable[str]) -> AbstractAsyncContextManager[Subscription]:
        """Follow the tasks `ids`; on entry the channels are subscribed, so read the record after entering.

        Entering never raises and waits at most the store's time limit: without Redis the subscription starts with
        `connected == False` and recovers by itself. The newest live states come first, as ordinary events; repeated
        and overtaken events are dropped.
        """
        return self._hub.subscribe(ids)

    @property
    def connected(self) -> bool:
        """Whether the pub/sub connection stands."""
        return self._hub.connected

    async def announce(self, event: TaskEvent) -> bool:
        """Write an event of the API itself (cancelled, expired, dead, ...) as live state and tell subscribers, also
        those who wait with Celery's own `AsyncResult`.

        Returns False when a newer live state exists. The record must have been committed before: nothing goes into
        the event stream.
        """
        arguments: list[str | int | float] = [
            event["position"],
            json.dumps(event, separators=(",", ":")),
            LIVE_STATE_TTL_SECONDS,
            event["state"],
            wire.LIVE_POSITION,
            wire.LIVE_EVENT,
            wire.updates_channel(event["id"]),
            build_celery_result(event),
            RESULT_TTL_SECONDS,
        ]
        keys = [wire.task_key(event["id"]), RESULT_KEY_PREFIX + event["id"]]
        async with self._limit(f"announcing task {event['id']}"):
            return bool(await self._announce(keys=keys, args=arguments))

    async def cancel(self, queue: str, task_id: str, *, terminate: bool = False) -> None:
        """Tell the workers of `queue` not to run the task, or to terminate it if they run it."""
        key, now = wire.CANCELLED_KEY_PREFIX + queue, time.time()
        message = json.dumps({"type": "cancel", "id": task_id, "terminate": terminate})
        async with self._limit(f"cancelling task {task_id}"), self._client.pipeline(transaction=True) as pipe:
            pipe.zadd(key, {task_id: now})
            pipe.zremrangebyscore(key, "-inf", now - CANCELLED_TTL_SECONDS)
            pipe.expire(key, CANCELLED_TTL_SECONDS)
            pipe.publish(wire.CONTROL_CHANNEL_PREFIX + queue, message)
            await pipe.execute()

    async def readmit(self, queue: str, task_ids: Sequence[str]) -> None:
        """Take cancellations back: a new attempt of these tasks shall run."""
        async with self._limit(f"readmitting {len(task_ids)} tasks"):
            await self._client.zrem(wire.CANCELLED_KEY_PREFIX + queue, *task_ids)

    async def wake(self, queue: str) -> None:
        """Hint that `queue` got a message while it has no workers."""
        async with self._limit(f"waking queue {queue}"):
            await self._client.publish(wire.WAKE_CHANNEL, queue)

    async def fetch_registry(self) -> list[QueueRegistration]:
        """Fetch all registered queues; an empty list is what an emptied Redis says."""
        async with self._limit("fetching the queue registry"):
            rows = await self._client.hgetall(wire.REGISTRY_KEY)
        values = [parse_json(text) for text in rows.values()]
        return [cast(QueueRegistration, value) for value in values if isinstance(value, dict) and "queueName" in value]

    async def fetch_removed_queues(self) -> set[str]:
        """Fetch the queues that who announced them took out of the registry; an emptied Redis names none."""
        async with self._limit("fetching the removed queues"):
            return {str(name) for name in await self._client.zrange(wire.REMOVED_QUEUES_KEY, 0, -1)}

    async def register(self, registration: QueueRegistration) -> None:
        """Write one queue into the registry."""
        name = registration["queueName"]
        async with self._limit("registering a queue"), self._client.pipeline(transaction=True) as pipe:
            pipe.hset(wire.REGISTRY_KEY, name, json.dumps(registration))
            pipe.zrem(wire.REMOVED_QUEUES_KEY, name)
            await pipe.execute()

    async def unregister(self, queue: str) -> None:
        """Take one queue out of the registry, and say so."""
        async with self._limit("unregistering a queue"), self._client.pipeline(transaction=True) as pipe:
            pipe.hdel(wire.REGISTRY_KEY, queue)
            pipe.zadd(wire.REMOVED_QUEUES_KEY, {queue: time.time()})
            await pipe.execute()

    async def fetch_decision(self, queue: str) -> DecisionReport | None:
        """Fetch the last decision about the queue's workers; None before the first one."""
        return (await self.fetch_decisions([queue])).get(queue)

    async def fetch_decisions(self, queues: Sequence[str]) -> dict[str, DecisionReport]:
        """Fetch the last decisions about these queues in one round trip, of those that have one."""
        if not queues:
            return {}
        async with self._limit("fetching scaling decisions"):
            texts = await self._client.hmget(wire.DECISIONS_KEY, list(queues))
        reports = {queue: parse_json(text) for queue, text in zip(queues, texts, strict=True)}
        wanted = DecisionReport.__required_keys__
        return {
            queue: cast(DecisionReport, report)
            for queue, report in reports.items()
            if isinstance(report, dict) and wanted <= report.keys()
        }

    async def note_tallies(self, interval: int, replica: str, tallies: Mapping[str, Any]) -> None:
        """Tell the replica that writes the history what this one recorded in the interval that began at `interval`
        (Unix seconds)."""
        key = f"{wire.HISTORY_KEY_PREFIX}{interval}"
        async with self._limit("noting tallies"), self._client.pipeline(transaction=True) as pipe:
            pipe.hset(key, replica, json.dumps(tallies))
            pipe.expire(key, TALLIES_TTL_SECONDS)
            await pipe.execute()

    async def take_tallies(self, intervals: Sequence[int]) -> list[dict[str, Any]]:
        """Take what replicas recorded in these intervals, one mapping from each that recorded anything; nobody else
        gets it."""
        async with self._limit("taking tallies"), self._client.pipeline(transaction=True) as pipe:
            for interval in intervals:
                pipe.hvals(f"{wire.HISTORY_KEY_PREFIX}{interval}")
                pipe.delete(f"{wire.HISTORY_KEY_PREFIX}{interval}")
            answers = await pipe.execute()
        texts = [text for answer in answers[::2] for text in answer]
        return [tallies for text in texts if isinstance(tallies := parse_json(text), dict)]

    async def fetch_catalogs(self, queues: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Fetch, for each of these queues, task name -> JSON schema of its parameters, as the queue's workers announced
        them; in one round trip."""
        async with self._limit("fetching task catalogs"), self._client.pipeline(transaction=False) as pipe:
            for queue in queues:
                pipe.hgetall(wire.CATALOG_KEY_PREFIX + queue)
            rows = await pipe.execute()
        return {
            queue: {name: parse_json(text) for name, text in row.items()}
            for queue, row in zip(queues, rows, strict=True)
        }

    async def fetch_heartbeats(self, queue: str | None = None, *, certain: bool = False) -> list[Heartbeat]:
        """Fetch the heartbeats of all living workers, or of those of one queue.

        A worker that has just started can be missing for some seconds, unless `certain` is asked for; that walks
        over all keys, so it is for decisions about lost work only.
        """
        async with self._limit("fetching heartbeats"):
            keys = sorted(await self._fetch_worker_keys(certain))
            texts = await self._client.mget(keys) if keys else []
        beats = [parse_json(text) for text in texts if text]
        living = [cast(Heartbeat, beat) for beat in beats if isinstance(beat, dict) and "queue" in beat]
        return [beat for beat in living if queue is None or queue in (beat["queue"], *beat.get("queues", ()))]

    async def fetch_tasks_in_hand(self, queue: str | None = None, *, certain: bool = False) -> set[str]:
        """Fetch the ids of the tasks that workers name in their heartbeats; `certain` as in `fetch_heartbeats`."""
        heartbeats = await self.fetch_heartbeats(queue, certain=certain)
        return {task_id for beat in heartbeats for task_id in beat.get("tasks", ())}

    async def _fetch_worker_keys(self, certain: bool) -> set[str]:
        """Keys from the workers' index; now and then also by SCAN, for workers that write none."""
        started = time.monotonic()
        if certain or started >= self._next_scan_at:
            found = self._client.scan_iter(match=wire.WORKER_KEY_PREFIX + "*", count=5_000)
            self._scanned = {key async for key in found}
            now = time.monotonic()
            self._next_scan_at = now + max(SCAN_SECONDS, SCAN_PAUSE_FACTOR * (now - started))
        indexed: Any = await self._client.zrangebyscore(wire.WORKERS_INDEX_KEY, time.time() - 60, "+inf")
        return self._scanned | set(indexed)

    async def read_events(self, consumer: str, *, limit: int, block_seconds: float) -> list[StreamEntry]:
        """Read entries of the event stream for `consumer` of the recorder group: new ones, or its own unacknowledged
        ones after a failed read."""
        return await self._stream.read(consumer, limit=limit, block_seconds=block_seconds)

    async def reclaim_events(self, consumer: str, *, idle_seconds: float, limit: int) -> list[StreamEntry]:
        """Take over entries that another consumer read, but did not acknowledge for `idle_seconds`."""
        return await self._stream.reclaim(consumer, idle_seconds=idle_seconds, limit=limit)

    async def fetch_consumers(self) -> list[str]:
        """The names of all consumers of the recorder group."""
        return await self._stream.fetch_consumers()

    async def take_over_events(self, dead: str, consumer: str, *, limit: int) -> list[StreamEntry]:
        """Take entries over from the consumer of a dead replica, at once; one that holds nothing is removed."""
        return await self._stream.take_over(dead, consumer, limit=limit)

    async def ack_events(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge and delete entries whose effect is committed."""
        await self._stream.acknowledge(entry_ids)

    async def remove_idle_consumers(self, idle_seconds: float) -> int:
        """Remove consumers of replicas that are gone and left nothing behind; returns how many."""
        return await self._stream.remove_idle_consumers(idle_seconds)

    async def beat(self, process: str, count: int) -> dict[str, int]:
        """Give a sign of life of this API process, its `count`-th; returns the last one of each process."""
        async with self._limit("giving a sign of life"), self._client.pipeline(transaction=True) as pipe:
            pipe.hset(wire.REPLICAS_KEY, process, count)
            pipe.hgetall(wire.REPLICAS_KEY)
            _, counts = await pipe.execute()
        return {name: int(count) for name, count in counts.items()}

    async def forget_process(self, process: str) -> None:
        """Forget the signs of life of a process that is dead, or about to end."""
        async with self._limit("forgetting a process"):
            await self._client.hdel(wire.REPLICAS_KEY, process)

    async def settle_rates(self, uses: Sequence[RateUse]) -> list[float]:
        """Tell the shared buckets what was used and learn what they hold, in the same order."""
        return await self._rates.settle(uses)

    async def fetch_stream_length(self) -> int:
        """How many events wait to be recorded or acknowledged."""
        return await self._stream.fetch_length()

    def _limit(self, what: str) -> AbstractAsyncContextManager[None]:
        return guarded(what, 2 * self._timeout)
