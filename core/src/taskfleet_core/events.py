"""What crosses Redis between workers, API and operator: task events, heartbeats and queue registrations.

Plain JSON with short stable names. Readers ignore unknown fields and refuse a larger `schema`.
"""

from typing import Any, Literal, NotRequired, TypedDict

__all__ = ["Heartbeat", "QueueRegistration", "TaskErrorInfo", "TaskEvent"]


class TaskErrorInfo(TypedDict):
    """Why a task failed, as the worker saw it."""

    type: str
    message: str
    traceback: NotRequired[str]


class TaskEvent(TypedDict):
    """One observation of a task by a worker (or by the API, for a cancellation or a dead letter).

    `kind` is `state` or `progress`. `position` orders events of a task (see `states.position`); `at` is Unix seconds.
    """

    schema: int
    kind: Literal["state", "progress"]
    id: str
    queue: str
    task: str
    state: str
    attempt: int
    retries: int
    position: int
    at: float
    worker: NotRequired[str]
    result: NotRequired[Any]  # any JSON value; absent when omitted
    result_omitted_bytes: NotRequired[int]  # the result was larger than the limit: its size
    error: NotRequired[TaskErrorInfo]
    runtime_seconds: NotRequired[float]
    retry_at: NotRequired[float]  # Celery's own retry: when it runs again
    progress: NotRequired[Any]  # kind=progress: the `meta` of update_state
    progress_count: NotRequired[int]
    ends_attempt: NotRequired[bool]  # state=retrying: the platform starts the next attempt
    redelivered: NotRequired[bool]
    deliveries: NotRequired[int]  # how often workers began this attempt, this time included; with `redelivered`
    # Only for messages of plain Celery producers, so that a record can be made on first sight:
    origin: NotRequired[Literal["celery"]]
    args: NotRequired[Any]
    kwargs: NotRequired[Any]
    root_id: NotRequired[str | None]
    parent_id: NotRequired[str | None]


class Heartbeat(TypedDict):
    """What one worker process (pod) says each second."""

    schema: int
    queue: str
    queues: NotRequired[list[str]]  # all that it serves, where these are several; `queue` is the first
    host: str
    pod_uid: NotRequired[str]
    pid: int
    pool: str
    slots: int  # tasks it can run at once
    busy: int  # tasks it runs now
    tasks: list[str]  # ids in hand: running, reserved, or waiting for a Celery retry
    consuming: bool  # false once draining or fenced
    started_at: float
    at: float
    completed: int  # tasks finished since start, all outcomes
    failed: int
    runtime_seconds_sum: float  # of the completed tasks
    slow: NotRequired[int]  # completed tasks that ran longer than a third of the grace period
    celery: str
    python: str


class QueueRegistration(TypedDict):
    """A queue as operator or local mode announces it in the registry.

    `limits` holds what is set of the TaskQueue: maxTaskSeconds, pool, concurrency, deliveryLimit, deadLetter,
    maxLength, messageTTLSeconds, minReplicas, maxReplicas, targetWaitSeconds.
    """

    schema: int
    namespace: str
    name: str  # of the TaskQueue
    queueName: str
    uid: str
    broker: str  # name of a broker in the API's settings; another name means scale-only
    limits: dict[str, Any]
    at: float
