"""Every name that crosses a wire, in one place. The worker's copy is generated from this file and drift-checked."""

SCHEMA_VERSION = 1

# Keys and channels in Redis/Valkey
REGISTRY_KEY = "taskfleet:queues"  # hash: queue name -> JSON of QueueRegistration
REMOVED_QUEUES_KEY = "taskfleet:queues:removed"  # sorted set: queue taken out of the registry on purpose -> Unix time
DECISIONS_KEY = "taskfleet:decisions"  # hash: queue name -> JSON of DecisionReport, the last one
HISTORY_KEY_PREFIX = "taskfleet:history:"  # hash with TTL per interval: replica -> JSON of what it saw end and begin
EVENTS_STREAM = "taskfleet:events"  # stream: one field, EVENT_FIELD, JSON of TaskEvent
EVENT_FIELD = "event"
RECORDER_GROUP = "recorder"
WAKE_CHANNEL = "taskfleet:wake"  # pub/sub: queue name; a sleeping queue got its first message
TASK_KEY_PREFIX = "taskfleet:task:"  # hash: live state of one task (LIVE_* fields)
UPDATES_CHANNEL_PREFIX = "taskfleet:updates:"  # pub/sub per task: JSON of TaskEvent
WORKER_KEY_PREFIX = "taskfleet:worker:"  # string with TTL: JSON of Heartbeat
WORKERS_INDEX_KEY = "taskfleet:workers"  # sorted set: worker key -> Unix time of its last heartbeat (no SCAN needed)
FENCE_KEY_PREFIX = "taskfleet:fence:"  # string with TTL: the worker with this pod uid takes no new tasks
CATALOG_KEY_PREFIX = "taskfleet:catalog:"  # hash per queue: task name -> JSON schema of its parameters
CONTROL_CHANNEL_PREFIX = "taskfleet:control:"  # pub/sub per queue: JSON {"type": "cancel", "id", "terminate"}
CANCELLED_KEY_PREFIX = "taskfleet:cancelled:"  # sorted set per queue: task id -> Unix time of the cancellation
REPLICAS_KEY = "taskfleet:replicas"  # hash: API process -> count of its signs of life, of the API alone
RATE_KEY_PREFIX = "taskfleet:rate:"  # hash {level, at} per caller or queue: a token bucket, of the API alone
UNACKED_KEY_PREFIX = "taskfleet:unacked:"  # on a Redis broker: hash per queue: delivery tag -> message in hand
UNACKED_INDEX_KEY_PREFIX = "taskfleet:unacked-index:"  # ... sorted set per queue: delivery tag -> Unix time

LIVE_POSITION = "position"  # int, see states.position
LIVE_EVENT = "event"  # JSON of the newest state TaskEvent
LIVE_PROGRESS = "progress"  # JSON of the newest progress TaskEvent
LIVE_PROGRESS_COUNT = "progress_count"  # int, counts progress reports
LIVE_DELIVERIES = "deliveries"  # int, counts redeliveries of this attempt seen by workers
LIVE_LOSS = "loss"  # JSON {attempt, message}: how the process that ran the task last came to its end
LIVE_RETURNED = "returned"  # int, those of them that a leaving worker gave back

# Message headers
HEADER_ATTEMPT = "taskfleet-attempt"  # int from 1; absent on messages of plain Celery producers
HEADER_MAX_ATTEMPTS = "taskfleet-max-attempts"  # int; the platform retries a failure while attempt < this
HEADER_REPUBLISHED = "taskfleet-republished"  # true when an earlier copy may exist
HEADER_TRACEPARENT = "traceparent"

# At the broker
DEAD_SUFFIX = ".dead"
DEAD_EXCHANGE = "taskfleet.dead"  # of RabbitMQ 4: takes each dead letter to the dead-letter queue of its queue
POLICY_PREFIX = "taskfleet."
SEND_EXCHANGE_PREFIX = "taskfleet:to:"  # one exchange per queue, where each TaskQueue has its own broker user
DELAY_EXCHANGE = "taskfleet:delayed"  # where such users send what shall wait; a queue's name can hold no colon

# Environment of an injected worker
ENV_QUEUE = "TASKFLEET_QUEUE"
ENV_QUEUES = "TASKFLEET_QUEUES"  # name=weight,...: all queues of a worker that serves several
ENV_REDIS_URL = "TASKFLEET_REDIS_URL"
ENV_REDIS_CA_FILE = "TASKFLEET_REDIS_CA_FILE"  # authorities (PEM) that sign for Redis/Valkey; default the system's
ENV_BROKER_CA_FILE = "TASKFLEET_BROKER_CA_FILE"  # ... for the broker
ENV_POD_UID = "TASKFLEET_POD_UID"
ENV_HOST = "TASKFLEET_HOST"  # the worker's name in heartbeats; default the host name
ENV_MAX_TASK_SECONDS = "TASKFLEET_MAX_TASK_SECONDS"
ENV_GRACE_SECONDS = "TASKFLEET_GRACE_SECONDS"
ENV_ACCEPT_CONTENT = "TASKFLEET_ACCEPT_CONTENT"  # comma-separated
ENV_DELIVERY_LIMIT = "TASKFLEET_DELIVERY_LIMIT"
ENV_HEALTH_FILE = "TASKFLEET_HEALTH_FILE"  # touched each second while the worker's loop is alive
ENV_LOG_FORMAT = "TASKFLEET_LOG_FORMAT"  # json | console
ENV_CONFINED = "TASKFLEET_CONFINED"  # the broker user is the queue's own: `delays`, or `waits` where it may not delay

HEARTBEAT_SECONDS = 1.0
HEARTBEAT_TTL_SECONDS = 5


def task_key(task_id: str) -> str:
    """Key of a task's live state."""
    return TASK_KEY_PREFIX + task_id


def updates_channel(task_id: str) -> str:
    """Channel on which a task's events are announced."""
    return UPDATES_CHANNEL_PREFIX + task_id


def worker_key(queue: str, host: str) -> str:
    """Key of a worker's heartbeat."""
    return f"{WORKER_KEY_PREFIX}{queue}:{host}"


def send_exchange(queue: str) -> str:
    """Name of the exchange that leads to one queue alone."""
    return SEND_EXCHANGE_PREFIX + queue


def dead_queue(queue: str) -> str:
    """Name of the dead-letter queue of a queue."""
    return queue + DEAD_SUFFIX
