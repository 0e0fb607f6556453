"""Each second: what this worker runs, whether it is fenced, and the health file. One thread with its own connection."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import threading
import time
from pathlib import Path
from typing import Any

import celery
import redis
from celery.worker import state as worker_state

from . import _wire
from .request import hooks
from .settings import WorkerSettings
from .store import RETRYABLE

__all__ = ["Heartbeat", "note_returned", "open_client"]

logger = logging.getLogger("taskfleet.worker")

CATALOG_SECONDS = 30.0
TELL_EVERY_SECONDS = 30.0
ECHO_SECONDS = 0.3  # a consumer is cancelled in less
INDEX_KEPT_SECONDS = 3600.0
# The loop turns at least every 2 s (gevent); a loop that stands longer than this is stuck.
STUCK_SECONDS = 20.0
POOL_NAMES = {"thread": "threads"}


def open_client(url: str, *, timeout_seconds: float = 2.0) -> Any:
    """A client whose every command ends in time."""
    return redis.Redis.from_url(url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds)


def note_returned(settings: WorkerSettings, ids: list[str]) -> None:
    """Remember that these tasks were given back by a worker that had to leave: no fault of theirs."""
    with contextlib.closing(open_client(settings.redis_url, timeout_seconds=1.0)) as client:
        pipeline = client.pipeline(transaction=False)
        for task_id in ids:
            pipeline.hincrby(_wire.TASK_KEY_PREFIX + task_id, _wire.LIVE_RETURNED, 1)
            pipeline.expire(_wire.TASK_KEY_PREFIX + task_id, settings.live_ttl_seconds)
        pipeline.execute()


class Heartbeat:
    """Says what the worker does, reads whether it may take new tasks."""

    def __init__(self, settings: WorkerSettings, worker: Any, drain: Any, catalog: dict[Any, Any]) -> None:
        self._settings = settings
        self._worker = worker
        self._drain = drain
        self._catalog = catalog
        self._catalog_at = float("-inf")
        self._client = open_client(settings.redis_url)
        self._started_at = time.time()
        self._told_at = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskfleet-heartbeat", daemon=True)
        self._pool = _name_pool(worker.pool)
        self._key = _wire.worker_key(settings.queue, settings.host)

    def start(self) -> None:
        """Beat from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more and take the heartbeat away, so that nobody waits for its end."""
        self._stop.set()
        with contextlib.suppress(*RETRYABLE):
            self._client.delete(self._key)
            self._client.zrem(_wire.WORKERS_INDEX_KEY, self._key)
        self._client.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            pause = float(_wire.HEARTBEAT_SECONDS)
            try:
                if self._beat():
                    pause = ECHO_SECONDS
            except RETRYABLE as error:
                self._tell_silence(error)
            except Exception:  # the beat must go on whatever one of them meets
                logger.exception("heartbeat failed")
            self._touch_health_file()
            self._drain.check_grace()
            self._stop.wait(max(0.05, pause - (time.monotonic() - began)))

    def _tell_silence(self, error: BaseException) -> None:
        """A store that cannot be reached at all, for a wrong certificate say, would be seen only when a task ends."""
        if time.monotonic() - self._told_at > TELL_EVERY_SECONDS:
            self._told_at = time.monotonic()
            logger.warning("heartbeat not written, repeating: %s", error)

    def _beat(self) -> bool:
        """Whether there is something to say before the next second is over: the operator waits for a fence's echo."""
        settings = self._settings
        pipeline = self._client.pipeline(transaction=False)
        pipeline.set(self._key, json.dumps(self.build()), ex=_wire.HEARTBEAT_TTL_SECONDS)
        pipeline.zadd(_wire.WORKERS_INDEX_KEY, {self._key: time.time()})
        if settings.pod_uid:
            pipeline.exists(_wire.FENCE_KEY_PREFIX + settings.pod_uid)
        answers = pipeline.execute()
        is_news = bool(settings.pod_uid) and self._drain.set_fenced(bool(answers[-1]))
        if self._catalog and time.monotonic() - self._catalog_at > CATALOG_SECONDS:
            self._announce_catalog()
        return is_news

    def _announce_catalog(self) -> None:
        pipeline = self._client.pipeline(transaction=True)
        for queue in self._settings.queues:
            key = _wire.CATALOG_KEY_PREFIX + queue
            pipeline.delete(key)
            pipeline.hset(key, mapping=self._catalog)
        # Workers that were killed leave their entry behind.
        pipeline.zremrangebyscore(_wire.WORKERS_INDEX_KEY, "-inf", time.time() - INDEX_KEPT_SECONDS)
        pipeline.execute()
        self._catalog_at = time.monotonic()

    def build(self) -> dict[str, Any]:
        """The heartbeat as every reader knows it."""
        counters, settings = hooks.counters, self._settings
        beat = {
            "schema": _wire.SCHEMA_VERSION,
            "queue": settings.queue,
            "host": settings.host,
            "pid": os.getpid(),
            "pool": self._pool,
            "slots": self._worker.pool.num_processes,
            "busy": len(worker_state.active_requests),
            "tasks": self._list_tasks(),
            "consuming": self._drain.is_consuming,
            "started_at": self._started_at,
            "at": time.time(),
            "completed": counters.completed,
            "failed": counters.failed,
            "runtime_seconds_sum": round(counters.runtime_seconds_sum, 3),
            "slow": counters.slow,
            "celery": celery.__version__,
            "python": platform.python_version(),
        }
        if settings.pod_uid:
            beat["pod_uid"] = settings.pod_uid
        if len(settings.queues) > 1:
            beat["queues"] = list(settings.queues)
        return beat

    def _list_tasks(self) -> list[str]:
        """Ids of all messages in hand: running, reserved, waiting for their time or for their rate limit."""
        found = set(_copy(worker_state.requests))
        consumer = getattr(self._worker, "consumer", None)
        for bucket in list(getattr(consumer, "task_buckets", {}).values()):
            if bucket is not None:
                found.update(request.id for request, _ in _copy(bucket.contents))
        return sorted(found)

    def _touch_health_file(self) -> None:
        path = self._settings.health_file
        if path and self._is_healthy():
            with contextlib.suppress(OSError):
                Path(path).touch()

    def _is_healthy(self) -> bool:
        if time.monotonic() - self._drain.loop.last_turn < STUCK_SECONDS:
            return True
        # The solo pool runs its task in the loop itself: that is work, not a stuck worker.
        return self._pool == "solo" and any(
            time.time() - (request.time_start or time.time()) < self._settings.longest_task_seconds + STUCK_SECONDS
            for request in _copy(worker_state.active_requests)
        )


def _copy(collection: Any) -> list[Any]:
    """A copy of something the event loop may change meanwhile."""
    for _ in range(100):
        try:
            return list(collection)
        except RuntimeError:  # changed during iteration
            continue
    return []


def _name_pool(pool: Any) -> str:
    module = type(pool).__module__.rsplit(".", 1)[-1]
    return POOL_NAMES.get(module, module)
