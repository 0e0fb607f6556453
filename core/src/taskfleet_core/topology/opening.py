"""Choosing the adapter by the scheme of a broker URL. Nothing is connected yet."""

from taskfleet_core.addresses import is_amqp_url, is_redis_url, parse_amqp_url
from taskfleet_core.topology.model import Topology
from taskfleet_core.topology.rabbitmq import RabbitTopology
from taskfleet_core.topology.redis import RedisTopology

__all__ = ["open_topology"]


def open_topology(url: str, management_url: str | None = None) -> Topology:
    """Topology of the broker; by default the management API is sought on port 15672 of the same host."""
    if is_amqp_url(url):
        return RabbitTopology(parse_amqp_url(url), management_url)
    if is_redis_url(url):
        return RedisTopology()
    raise ValueError("the broker URL begins with none of amqp://, amqps://, redis://, rediss://")
