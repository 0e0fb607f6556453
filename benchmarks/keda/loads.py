"""Sending tasks to a queue and reading what the tasks themselves noted, past everything that scales."""

import contextlib
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import redis
from celery import Celery
from kombu import Connection, Exchange, Queue
from tests.support.cluster import RELEASE, Cluster

__all__ = ["Servers", "Submitted", "find_address"]

MAX_BATCH = 1000


@dataclass
class Submitted:
    """Tasks of one round, each with the Unix time at which its submission was sent, in the order of submission."""

    marker: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    sent: dict[str, float] = field(default_factory=dict)


def find_address(cluster: Cluster, service: str) -> str:
    """A Service's address, which this machine reaches as pods do."""
    return str(cluster.get("service", service)["spec"]["clusterIP"])


class Servers:
    """The installation's broker and Valkey, by their addresses."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.broker_url = self._reach("broker", "url", f"{RELEASE}-rabbitmq")
        self.management_url = self._reach("broker", "adminManagementUrl", f"{RELEASE}-rabbitmq")
        self._notes = redis.Redis.from_url(self._reach("valkey", "url", f"{RELEASE}-valkey"), decode_responses=True)
        self._celery = Celery("bench", broker=self.broker_url, set_as_current=False)
        self._celery.conf.broker_connection_timeout = 10

    def _reach(self, secret: str, key: str, service: str) -> str:
        url = self._cluster.read_secret(f"{RELEASE}-{secret}", key)
        host = urlsplit(url).hostname
        assert host, url
        return url.replace(f"@{host}:", f"@{find_address(self._cluster, service)}:")

    # --- tasks --------------------------------------------------------------------------------------------------

    def submit(self, queue: str, seconds: list[float], submitted: Submitted) -> None:
        """Through Taskfleet's API, in one request: tasks that take so many seconds each."""
        assert len(seconds) <= MAX_BATCH
        items = [{"queue": queue, "task": "jobs.record", "args": [submitted.marker, length]} for length in seconds]
        at = time.time()
        answer = self._cluster.api.request("POST", "/tasks:batch", json=items)
        assert answer.status_code == 202, (answer.status_code, answer.text[:500])
        submitted.sent |= {entry["id"]: at for entry in answer.json()["items"]}

    def publish(self, queue: str, seconds: list[float], submitted: Submitted) -> None:
        """As a plain Celery producer."""
        at = time.time()
        for length in seconds:
            task_id = str(uuid.uuid4())
            submitted.sent[task_id] = at
            self._celery.send_task(
                "jobs.record",
                [submitted.marker, length],
                task_id=task_id,
                exchange=Exchange(""),
                routing_key=queue,
                ignore_result=True,
            )

    def count_ended(self, submitted: Submitted) -> int:
        """Tasks that noted their end at least once."""
        return len({note["id"] for note in self.read_notes(submitted) if note["what"] == "end"})

    def read_notes(self, submitted: Submitted) -> list[dict]:
        """What the tasks noted, in order: {id, pod, what: start | end, at}."""
        return [json.loads(line) for line in self._notes.lrange(f"taskfleet:task:runs:{submitted.marker}", 0, -1)]

    # --- queues -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def channel(self) -> Iterator:
        """A channel at the broker."""
        with Connection(self.broker_url) as connection:
            yield connection.default_channel

    def declare(self, *queues: str) -> None:
        """Quorum queues, as Celery declares them."""
        with self.channel() as channel:
            for name in queues:
                Queue(name, channel=channel, queue_arguments={"x-queue-type": "quorum"}).queue_declare()

    def remove(self, *queues: str) -> None:
        """Delete queues with what is in them."""
        with self.channel() as channel:
            for name in queues:
                channel.queue_delete(name)

    def close(self) -> None:
        """Close connections."""
        self._celery.close()
        self._notes.close()
