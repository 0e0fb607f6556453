"""Two sources of RabbitMQ figures over HTTP: the Prometheus plugin and the management API."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.statistics.model import QueueStatistics

__all__ = ["DetailedMetrics", "ManagementQueues", "parse_detailed_metrics"]

_FAMILIES = ("queue_coarse_metrics", "queue_exchange_metrics", "queue_delivery_metrics", "queue_consumer_count")
_PREFIX = "rabbitmq_detailed_queue_"
_READY, _UNACKED, _CONSUMERS = "messages_ready", "messages_unacked", "consumers"
_PUBLISHED, _ACKED = "exchange_messages_published_total", "messages_acked_total"
_NAMES = frozenset({_READY, _UNACKED, _CONSUMERS, _PUBLISHED, _ACKED})
# Only from 4.x on: there the counters are per queue, and a queue without a line has counted nothing yet.
_COUNTING_MARK = "info"

_LINE = re.compile(rf"^{_PREFIX}(\w+)\{{(.*)\}} ([0-9.eE+-]+)$", re.MULTILINE)
_QUEUE_LABEL = re.compile(r'(?:^|,)queue="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


def _host(address: BrokerAddress) -> str:
    return f"[{address.host}]" if ":" in address.host else address.host


def parse_detailed_metrics(text: str, at: float) -> dict[str, QueueStatistics]:
    """Figures by queue from the answer of one node for one virtual host. Pure."""
    figures: defaultdict[str, dict[str, int]] = defaultdict(dict)
    counting = False
    for name, labels, value in _LINE.findall(text):
        if name == _COUNTING_MARK:
            counting = True
        if name not in _NAMES:
            continue
        found = _QUEUE_LABEL.search(labels)
        if found is not None:
            of_queue = figures[_unescape(found.group(1))]
            of_queue[name] = of_queue.get(name, 0) + int(float(value))
    return {
        queue: _build_statistics(numbers, counting, at)
        for queue, numbers in figures.items()
        if _READY in numbers and _UNACKED in numbers
    }


def _build_statistics(numbers: Mapping[str, int], counting: bool, at: float) -> QueueStatistics:
    return QueueStatistics(
        ready=numbers[_READY],
        unacknowledged=numbers[_UNACKED],
        published=numbers.get(_PUBLISHED, 0) if counting else None,
        acknowledged=numbers.get(_ACKED, 0) if counting else None,
        consumers=numbers.get(_CONSUMERS),
        at=at,
    )


def _unescape(label: str) -> str:
    if "\\" not in label:
        return label
    return _ESCAPE.sub(lambda found: "\n" if found.group(1) == "n" else found.group(1), label)


class DetailedMetrics:
    """`/metrics/detailed`, one request per node (a node answers for the queues that it leads)."""

    def __init__(self, client: httpx.AsyncClient, addresses: Sequence[BrokerAddress], url: str | None) -> None:
        urls = url.split(",") if url else [f"http://{_host(address)}:15692" for address in addresses]
        query = "&".join(f"family={family}" for family in _FAMILIES)
        vhost = quote(addresses[0].virtual_host, safe="")
        self._client = client
        self._urls = [f"{base.strip().rstrip('/')}/metrics/detailed?vhost={vhost}&{query}" for base in urls]

    async def fetch(self, queues: Sequence[str]) -> dict[str, QueueStatistics] | None:
        """All queues of the nodes that answer; None when no node does."""
        answers = [found for found in await asyncio.gather(*map(self._ask, self._urls)) if found is not None]
        if not answers:
            return None
        merged: dict[str, QueueStatistics] = {}
        for answer in answers:
            merged.update(answer)
        return merged

    async def close(self) -> None:
        """Nothing of its own to close."""

    async def _ask(self, url: str) -> dict[str, QueueStatistics] | None:
        at = time.time()
        try:
            response = await self._client.get(url)
        except (httpx.HTTPError, OSError):
            return None
        return parse_detailed_metrics(response.text, at) if response.status_code == 200 else None


class ManagementQueues:
    """`/api/queues/<virtual host>` of the management API."""

    def __init__(self, client: httpx.AsyncClient, address: BrokerAddress, url: str | None) -> None:
        parts = urlsplit(url or f"http://{_host(address)}:15672")
        user = unquote(parts.username) if parts.username else address.user
        password = unquote(parts.password) if parts.password else address.password
        columns = "name,messages_ready,messages_unacknowledged,consumers,message_stats.publish,message_stats.ack"
        self._client = client
        self._auth = (user, password)
        self._url = (
            f"{parts.scheme}://{parts.netloc.rsplit('@', 1)[-1]}{parts.path.rstrip('/')}"
            f"/api/queues/{quote(address.virtual_host, safe='')}?columns={columns}"
        )

    async def fetch(self, queues: Sequence[str]) -> dict[str, QueueStatistics] | None:
        """All queues with figures; None when the API does not answer."""
        at = time.time()
        try:
            response = await self._client.get(self._url, auth=self._auth)
            rows = response.json() if response.status_code == 200 else None
        except (httpx.HTTPError, OSError, ValueError):
            return None
        if not isinstance(rows, list):
            return None
        return {row["name"]: _read_row(row, at) for row in rows if "messages_ready" in row}

    async def close(self) -> None:
        """Nothing of its own to close."""


def _read_row(row: Mapping[str, Any], at: float) -> QueueStatistics:
    counters = row.get("message_stats") or {}
    return QueueStatistics(
        ready=row["messages_ready"],
        unacknowledged=row.get("messages_unacknowledged"),
        published=counters.get("publish"),
        acknowledged=counters.get("ack"),
        consumers=row.get("consumers"),
        at=at,
    )
