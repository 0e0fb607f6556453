"""Choosing the reader by the scheme of a broker URL. Nothing is connected yet."""

from taskfleet_core.addresses import is_redis_url
from taskfleet_core.statistics.model import StatisticsReader
from taskfleet_core.statistics.redis import RedisStatistics

__all__ = ["open_statistics"]


def open_statistics(
    broker_url: str, management_url: str | None = None, metrics_url: str | None = None
) -> StatisticsReader:
    """A reader for `amqp(s)://` or `redis(s)://`; by default metrics are sought on port 15692 of the broker's host."""
    if is_redis_url(broker_url):
        return RedisStatistics(broker_url)
    raise NotImplementedError
