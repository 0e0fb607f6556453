"""Choosing the reader by the scheme of a broker URL. Nothing is connected yet."""

from taskfleet_core.addresses import is_amqp_url, is_redis_url, parse_amqp_url
from taskfleet_core.statistics.model import StatisticsReader
from taskfleet_core.statistics.rabbitmq import RabbitStatistics
from taskfleet_core.statistics.redis import RedisStatistics

__all__ = ["open_statistics"]


def open_statistics(
    broker_url: str, management_url: str | None = None, metrics_url: str | None = None
) -> StatisticsReader:
    """A reader for `amqp(s)://` or `redis(s)://`; by default metrics are sought on port 15692 of the broker's host."""
    if is_redis_url(broker_url):
        return RedisStatistics(broker_url)
    if is_amqp_url(broker_url):
        return RabbitStatistics(parse_amqp_url(broker_url), management_url=management_url, metrics_url=metrics_url)
    raise ValueError("the broker URL begins with none of amqp://, amqps://, redis://, rediss://")
