"""The broker user of a TaskQueue: its name, and where its password is kept, the Secret of its workers. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskfleet_core.addresses import is_amqp_url, parse_amqp_url
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.brokers import decode_secret
from taskfleet_operator.children.secret import BROKER_KEY, CONFINED_KEY
from taskfleet_operator.names import BROKER_USER, ROTATE_USER

__all__ = ["Login", "build_user_name", "find_user_of_pod", "read_login", "split_targets"]

USER_PREFIX = "taskfleet."
CAN_DELAY, WAITS = "delays", "waits"  # values of wire.ENV_CONFINED

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Login:
    """As whom the workers of a TaskQueue log in at the broker. Never printed."""

    url: str = field(repr=False)
    user: str
    password: str = field(repr=False)
    confined: str | None = None  # None: a user that several TaskQueues share


def build_user_name(queue: TaskQueue) -> str:
    """Another for each TaskQueue, also for one that is made again under its name, and after each rotation."""
    metadata = queue.metadata
    seed = f"{metadata.uid}\n{metadata.annotations.get(ROTATE_USER, '')}"
    digest = hashlib.sha256(seed.encode()).hexdigest()[:10]
    return f"{USER_PREFIX}{metadata.namespace}.{metadata.name}.{digest}"


def read_login(secret: Manifest | None) -> Login | None:
    """The login in a Secret of workers; None when there is no Secret, or none that is understood."""
    url = decode_secret(secret, BROKER_KEY) if secret is not None else None
    if secret is None or not url or not is_amqp_url(url):
        return None
    try:
        address = parse_amqp_url(url)[0]
    except ValueError:
        return None
    return Login(url, address.user, address.password, decode_secret(secret, CONFINED_KEY))


def find_user_of_pod(pod: Manifest) -> str | None:
    """The user with which a worker pod was started; None for one that is shared."""
    name: str | None = (pod["metadata"].get("annotations") or {}).get(BROKER_USER)
    return name


def split_targets(queue: TaskQueue, neighbours: Iterable[TaskQueue]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Queues of `sendsTo` that the workers may send to, those of TaskQueues of the same namespace at the same broker;
    and for each of the others a sentence."""
    wanted: Mapping[str, None] = dict.fromkeys(queue.spec.worker.sends_to)
    known = {
        name
        for other in neighbours
        if other.metadata.namespace == queue.metadata.namespace and other.spec.broker is None
        for name in other.queue_weights
    }
    allowed = tuple(name for name in wanted if name in known)
    notes = tuple(
        f"no TaskQueue of this namespace has the queue {name} of sendsTo: nothing can be sent to it"
        for name in wanted
        if name not in known
    )
    return allowed, notes
