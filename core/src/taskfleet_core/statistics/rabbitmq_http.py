"""Two sources of RabbitMQ figures over HTTP: the Prometheus plugin and the management API."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from taskfleet_core.addresses import BrokerAddress, split_http_login
from taskfleet_core.statistics.model import QueueStatistics, ReadProblem, Trouble
from taskfleet_core.statistics.rabbitmq_nodes import Node, NodeFinder

__all__ = ["DetailedMetrics", "ManagementQueues", "NodeFigures", "merge_nodes", "parse_detailed_metrics"]

_FAMILIES = ("queue_coarse_metrics", "queue_exchange_metrics", "queue_delivery_metrics", "queue_consumer_count")
_PREFIX = "rabbitmq_detailed_queue_"
_READY, _UNACKED, _CONSUMERS = "messages_ready", "messages_unacked", "consumers"
_PUBLISHED, _ACKED = "exchange_messages_published_total", "messages_acked_total"
_LEADS, _LEADER_LABEL = "leads", 'membership="leader"'
_NAMES = frozenset({_READY, _UNACKED, _CONSUMERS, _PUBLISHED, _ACKED, _LEADS})
# Only from 4.x on: there the counters are per queue, and a queue without a line has counted nothing yet.
_COUNTING_MARK = "info"

_LINE = re.compile(rf"^{_PREFIX}(\w+)\{{(.*)\}} ([0-9.eE+-]+)$", re.MULTILINE)
_QUEUE_LABEL = re.compile(r'(?:^|,)queue="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """What one node told: numbers by queue and name, and whether its version counts per queue."""

    queues: Mapping[str, Mapping[str, int]]
    counting: bool
    at: float


def parse_detailed_metrics(text: str, at: float) -> NodeFigures:
    """The answer of one node for one virtual host. Pure."""
    figures: defaultdict[str, dict[str, int]] = defaultdict(dict)
    counting = False
    for name, labels, value in _LINE.findall(text):
        if name == _COUNTING_MARK:
            counting = True
            name = _LEADS if _LEADER_LABEL in labels else ""
        if name not in _NAMES:
            continue
        found = _QUEUE_LABEL.search(labels)
        if found is not None:
            of_queue = figures[_unescape(found.group(1))]
            of_queue[name] = of_queue.get(name, 0) + int(float(value))
    return NodeFigures(figures, counting, at)


def merge_nodes(answers: Iterable[NodeFigures], silent: Iterable[NodeFigures] = ()) -> dict[str, QueueStatistics]:
    """Figures by queue. Depth comes from the node that leads the queue, counters from all of them: each counts what its
    own connections publish and acknowledge. `silent` is what nodes told last that do not answer now: a counter must
    not go back, and a depth without its leader is unknown.
    """
    answers = list(answers)
    leading: dict[str, tuple[tuple[int, int], NodeFigures]] = {}
    published: defaultdict[str, int] = defaultdict(int)
    acknowledged: defaultdict[str, int] = defaultdict(int)
    for node in answers:
        for queue, numbers in node.queues.items():
            if _READY in numbers and _UNACKED in numbers:
                rank = numbers.get(_LEADS, 0), numbers[_READY] + numbers[_UNACKED]
                if queue not in leading or leading[queue][0] < rank:
                    leading[queue] = (rank, node)
    for node in (*answers, *silent):
        for queue, numbers in node.queues.items():
            published[queue] += numbers.get(_PUBLISHED, 0)
            acknowledged[queue] += numbers.get(_ACKED, 0)
    return {
        queue: QueueStatistics(
            ready=node.queues[queue][_READY],
            unacknowledged=node.queues[queue][_UNACKED],
            published=published[queue] if node.counting else None,
            acknowledged=acknowledged[queue] if node.counting else None,
            consumers=node.queues[queue].get(_CONSUMERS),
            at=node.at,
        )
        for queue, (_, node) in leading.items()
    }


def _unescape(label: str) -> str:
    if "\\" not in label:
        return label
    return _ESCAPE.sub(lambda found: "\n" if found.group(1) == "n" else found.group(1), label)


class DetailedMetrics:
    """`/metrics/detailed`, one request per node."""

    def __init__(self, client: httpx.AsyncClient, addresses: Sequence[BrokerAddress], url: str | None) -> None:
        urls = url.split(",") if url else [f"http://{address.url_host}:15692" for address in addresses]
        query = "&".join(f"family={family}" for family in _FAMILIES)
        vhost = quote(addresses[0].virtual_host, safe="")
        self.problem: ReadProblem | None = None
        self.is_complete = False  # every node has answered: a queue that none of them names does not exist
        self._client = client
        self._finder = NodeFinder(urls)
        self._query = f"/metrics/detailed?vhost={vhost}&{query}"
        self._last: dict[Node, NodeFigures] = {}

    async def fetch(self, queues: Sequence[str]) -> dict[str, QueueStatistics] | None:
        """All queues of the nodes that answer; None when no node does."""
        nodes = await self._finder.find()
        answers = dict(zip(nodes, await asyncio.gather(*map(self._ask, nodes)), strict=True))
        present = {node: answer for node, answer in answers.items() if answer is not None}
        silent = {node: self._last[node] for node in nodes if node not in present and node in self._last}
        self.is_complete = len(present) == len(nodes)
        self._last = silent | present
        if not present:
            return None
        return merge_nodes(present.values(), silent.values())

    async def close(self) -> None:
        """Nothing of its own to close."""

    async def _ask(self, node: Node) -> NodeFigures | None:
        at = time.time()
        named: dict[str, Any] = {}
        if node.host is not None:
            named = {"headers": {"Host": f"{node.host}:{node.port}"}, "extensions": {"sni_hostname": node.host}}
        try:
            response = await self._client.get(node.base_url + self._query, **named)
        except (httpx.HTTPError, OSError) as error:
            self.problem = _explain_failure("the metrics endpoint", node.base_url, error)
            return None
        if response.status_code == 200:
            return parse_detailed_metrics(response.text, at)
        self.problem = _explain_status("the metrics endpoint", node.base_url, response.status_code)
        return None


class ManagementQueues:
    """`/api/queues/<virtual host>` of the management API."""

    is_complete = True

    def __init__(self, client: httpx.AsyncClient, address: BrokerAddress, url: str | None) -> None:
        columns = "name,messages_ready,messages_unacknowledged,consumers,message_stats.publish,message_stats.ack"
        self.problem: ReadProblem | None = None
        self._client = client
        self._base, self._auth = split_http_login(url or f"http://{address.url_host}:15672", address)
        self._url = f"{self._base}/api/queues/{quote(address.virtual_host, safe='')}?columns={columns}"

    async def fetch(self, queues: Sequence[str]) -> dict[str, QueueStatistics] | None:
        """All queues with figures; None when the API does not answer."""
        at = time.time()
        try:
            response = await self._client.get(self._url, auth=self._auth)
            rows = response.json() if response.status_code == 200 else None
        except (httpx.HTTPError, OSError, ValueError) as error:
            self.problem = _explain_failure("the management API", self._base, error)
            return None
        if not isinstance(rows, list):
            self.problem = _explain_status("the management API", self._base, response.status_code)
            return None
        return {row["name"]: _read_row(row, at) for row in rows if "messages_ready" in row}

    async def close(self) -> None:
        """Nothing of its own to close."""


def _explain_failure(what: str, url: str, error: Exception) -> ReadProblem:
    detail = f"{what} at {_label(url)} does not answer: {str(error) or type(error).__name__}"
    return ReadProblem(Trouble.UNREACHABLE, detail)


def _explain_status(what: str, url: str, status: int) -> ReadProblem:
    kind = Trouble.REFUSED if status in (401, 403) else Trouble.UNREADABLE
    return ReadProblem(kind, f"{what} at {_label(url)} answers {status}")


def _label(url: str) -> str:
    return urlsplit(url).netloc.rsplit("@", 1)[-1]


def _read_row(row: Mapping[str, Any], at: float) -> QueueStatistics:
    counters = row.get("message_stats") or {}
    return QueueStatistics(
        ready=row["messages_ready"],
        unacknowledged=row.get("messages_unacknowledged"),
        published=counters.get("publish"),
        acknowledged=counters.get("ack"),
        consumers=row.get("consumers"),
        at=at,
        is_stale=True,  # the API has a cache of its own
    )
