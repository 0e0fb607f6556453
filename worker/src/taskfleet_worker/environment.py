"""How a worker process is started: the environment and the command line, used by local mode.

Pure: builds values, starts nothing. Everything that must beat the app's own configuration is in the environment;
what Celery reads before a loader can speak is on the command line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from . import _wire

__all__ = ["BACKEND", "LOADER", "POOLS", "build_command", "build_environment"]

LOADER = "taskfleet_worker.loader:Loader"
BACKEND = "taskfleet_worker.backend.Backend"
POOLS = ("prefork", "threads", "gevent", "solo")
# The same pool by its other name: Celery takes `-P prefork` for "nothing said", and the app's `worker_pool` instead.
POOL_ARGUMENTS = {"prefork": "processes"}


def build_environment(
    *,
    queue: str | Mapping[str, int],
    broker_url: str,
    redis_url: str,
    max_task_seconds: float | None = None,
    grace_seconds: float | None = None,
    accept_content: Sequence[str] = ("json",),
    delivery_limit: int | None = None,
    host: str | None = None,
    pod_uid: str | None = None,
    health_file: str | None = None,
    log_format: str = "json",
) -> dict[str, str]:
    """The variables that turn `celery worker` into a Taskfleet worker; they beat what the app sets in code.

    `queue` may be several with their weights; the first one names the worker.
    `grace_seconds` defaults to `max_task_seconds`. `host` is the worker's name in heartbeats (default: host name).
    """
    weights = {queue: 1} if isinstance(queue, str) else dict(queue)
    several = ",".join(f"{name}={weight}" for name, weight in weights.items()) if len(weights) > 1 else None
    values: dict[str, object | None] = {
        "CELERY_BROKER_URL": broker_url,
        "CELERY_BROKER_READ_URL": broker_url,
        "CELERY_BROKER_WRITE_URL": broker_url,
        "CELERY_LOADER": LOADER,
        "CELERY_RESULT_BACKEND": f"{BACKEND}+{redis_url}",
        _wire.ENV_QUEUE: next(iter(weights)),
        _wire.ENV_QUEUES: several,
        _wire.ENV_REDIS_URL: redis_url,
        _wire.ENV_MAX_TASK_SECONDS: max_task_seconds,
        _wire.ENV_GRACE_SECONDS: max_task_seconds if grace_seconds is None else grace_seconds,
        _wire.ENV_ACCEPT_CONTENT: ",".join(accept_content),
        _wire.ENV_DELIVERY_LIMIT: delivery_limit,
        _wire.ENV_HOST: host,
        _wire.ENV_POD_UID: pod_uid,
        _wire.ENV_HEALTH_FILE: health_file,
        _wire.ENV_LOG_FORMAT: log_format,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def build_command(
    app: str,
    queue: str | Iterable[str],
    concurrency: int,
    pool: str = "prefork",
    *,
    python: str | None = None,
    loglevel: str = "INFO",
    events: bool = False,
    host: str | None = None,
) -> list[str]:
    """The command line of one worker process (one pod).

    `python` names an interpreter for `python -m celery`; without it the `celery` on PATH is started. `events` switches
    Flower's task events on from the start. Raises ValueError for a pool that does not exist.
    """
    if pool not in POOLS:
        raise ValueError(f"unknown pool {pool!r}: one of {', '.join(POOLS)}")
    command = [python, "-m", "celery"] if python else ["celery"]
    queues = queue if isinstance(queue, str) else ",".join(queue)
    command += ["-A", app, "worker", "-Q", queues, "-c", str(concurrency), "-P", POOL_ARGUMENTS.get(pool, pool)]
    command += ["-l", loglevel]
    command += ["--prefetch-multiplier", "1", "-O", "fair", "--without-gossip", "--without-mingle"]
    command += ["-n", f"celery@{host}" if host else "celery@%h"]
    if events:
        command.append("-E")
    return command
