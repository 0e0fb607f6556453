"""Celery loader: makes an unmodified app a Taskfleet worker. Named by CELERY_LOADER, so it beats what the app says.

Only a worker (`celery worker`) is changed; other commands with the same environment see the app as it is.
"""

from __future__ import annotations

import os
import sys
from typing import Any

# First: on an old Celery the other imports would fail, with less helpful words.
from .requirements import refuse

# isort: split
from celery import signals
from celery._state import get_current_task
from celery.loaders.base import BaseLoader

from . import _wire, broker
from .backend import Backend
from .draining import let_pool_leave_promptly
from .execution import Execution
from .forks import guard_pool
from .logs import install_logging
from .request import hooks
from .servers import build_server_settings
from .serving import Gate, use_weights
from .settings import WorkerSettings, load_settings
from .steps import build_steps
from .tls import build_broker_options

__all__ = ["Loader"]

LOST_PROCESS_SECONDS = 2.0
# A task that takes less than a third of the grace period ends in it, whatever the drain has behind it already.
SLOW_PART_OF_GRACE = 3.0


class Loader(BaseLoader):
    """Forces what Taskfleet's promises rest on, and nothing else."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._execution: Execution | None = None

    def on_worker_init(self) -> None:
        """Called once the app and its tasks are imported, before the worker reads its settings."""
        if not _is_worker_start():
            return
        settings = load_settings()
        broker_url = os.environ.get("CELERY_BROKER_URL") or str(self.app.conf.broker_url)
        redis = broker.is_redis(broker_url)
        self._update(build_server_settings(self.app.conf, broker_url, settings.redis_url))
        self._refuse_foreign_parts()
        self._force_settings(settings, redis=redis)
        self._verify_broker(broker_url, settings)
        broker.use_queue(self.app, settings, redis=redis)
        use_weights(settings.weights)
        if not redis:
            broker.patch_delayed_delivery(settings.confined)
        let_pool_leave_promptly()
        guard_pool()
        self.app.finalize()
        self._execution = Execution(settings, counts_deliveries=redis)
        for task in self.app.tasks.values():
            self._refuse_foreign_backend(task)
            self._execution.install(task)
        gated = not redis and len(settings.queues) > 1
        worker_step, consumer_step = build_steps(settings, Gate(settings.weights) if gated else None)
        self.app.steps["worker"].add(worker_step)
        self.app.steps["consumer"].add(consumer_step)
        hooks.queue, hooks.queues, hooks.max_task_seconds = settings.queue, settings.queues, settings.max_task_seconds
        hooks.slow_seconds = settings.grace_seconds / SLOW_PART_OF_GRACE
        install_logging(settings.log_format, settings.queue, settings.host)
        signals.before_task_publish.connect(_carry_headers, weak=False, dispatch_uid="taskfleet-headers")
        signals.task_retry.connect(_report_silent_retry, weak=False, dispatch_uid="taskfleet-retry")

    def on_process_cleanup(self) -> None:
        """After each task, where the task ran."""
        if self._execution is not None:
            self._execution.finish()

    def _force_settings(self, settings: WorkerSettings, *, redis: bool) -> None:
        conf = self.app.conf
        options = {**(conf.broker_transport_options or {}), **broker.build_transport_options(settings, redis=redis)}
        forced: dict[str, Any] = {
            "accept_content": list(settings.accept_content),
            "result_accept_content": conf.result_accept_content or conf.accept_content,
            "task_acks_late": True,
            "task_acks_on_failure_or_timeout": True,
            "task_reject_on_worker_lost": True,
            "task_track_started": False,
            "worker_prefetch_multiplier": 1,
            "worker_detect_quorum_queues": True,
            "worker_lost_wait": LOST_PROCESS_SECONDS,
            "worker_deduplicate_successful_tasks": False,
            "worker_proc_alive_timeout": max(30.0, conf.worker_proc_alive_timeout or 0),
            "broker_connection_retry": True,
            "broker_connection_retry_on_startup": True,
            "broker_connection_max_retries": None,
            "broker_transport_options": options,
            "result_backend_always_retry": True,
            "result_backend_max_sleep_between_retries_ms": 1000,
        }
        # A message to every worker of an app must not outlive them, and RabbitMQ 4.3 refuses queues that are neither
        # durable nor exclusive.
        if not redis:
            forced.update(control_queue_exclusive=True, event_queue_exclusive=True)
        if settings.confined:
            # These need queues and exchanges that are shared with the workers of others.
            forced.update(worker_enable_remote_control=False, worker_send_task_events=False, task_send_sent_event=False)
        if settings.max_task_seconds is not None:
            limit = conf.task_time_limit
            forced["task_time_limit"] = min(limit or settings.max_task_seconds, settings.max_task_seconds)
        if conf.task_track_started:
            for task in self.app.tasks.values():
                type(task).taskfleet_track_started = True
        self._update(forced)

    def _update(self, settings: dict[str, Any]) -> None:
        """Set what this version of Celery knows."""
        conf = self.app.conf
        known = set(conf)
        conf.update({name: value for name, value in settings.items() if name in known})

    def _verify_broker(self, broker_url: str, settings: WorkerSettings) -> None:
        """Verify the broker's certificate, unless the app says itself how."""
        options = build_broker_options(broker_url, settings.broker_ca_file)
        if options is not None and not isinstance(self.app.conf.broker_use_ssl, dict):
            self.app.conf.broker_use_ssl = options

    def _refuse_foreign_parts(self) -> None:
        if not isinstance(self.app.backend, Backend):
            _refuse(f"the app uses the result backend {type(self.app.backend).__qualname__} of its own (backend_cls)")

    def _refuse_foreign_backend(self, task: Any) -> None:
        if not task.name.startswith("celery.") and not isinstance(task.backend, Backend):
            _refuse(f"task {task.name} uses the result backend {type(task.backend).__qualname__} of its own")


def _is_worker_start() -> bool:
    """Children started by spawn run this too and need it; `celery beat` and others call it without being workers."""
    return bool(os.environ.get(_wire.ENV_QUEUE)) and (
        "worker" in sys.argv or os.environ.get("FORKED_BY_MULTIPROCESSING") == "1"
    )


def _refuse(why: str) -> None:
    refuse(why, "remove that setting")


def _carry_headers(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """A message sent under the running task's id (retry, replace) is the same attempt; others inherit the trace."""
    task = get_current_task()
    if task is None or headers is None:
        return
    request = task.request
    if headers.get("id") == request.id:
        headers.pop(_wire.HEADER_REPUBLISHED, None)
        for name in (_wire.HEADER_ATTEMPT, _wire.HEADER_MAX_ATTEMPTS):
            value = request.get(name)
            if value is not None:
                headers.setdefault(name, value)
    trace = request.get(_wire.HEADER_TRACEPARENT)
    if trace is not None:
        headers.setdefault(_wire.HEADER_TRACEPARENT, trace)


def _report_silent_retry(
    sender: Any = None, request: Any = None, reason: Any = None, einfo: Any = None, **_: Any
) -> None:
    """A retry of a task with ignore_result makes no call to the backend."""
    run = getattr(request, "_taskfleet_run", None)
    if run is None or run.ended:
        return
    backend: Backend = sender.backend
    backend.report(
        run.identity, backend.build_retry(reason.exc, getattr(einfo, "traceback", None), reason), "", request
    )
