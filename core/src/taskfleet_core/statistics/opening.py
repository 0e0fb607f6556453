"""Choosing the reader by the scheme of a broker URL. Nothing is connected yet."""

from taskfleet_core.addresses import is_amqp_url, is_redis_url, parse_amqp_url
from taskfleet_core.statistics.model import StatisticsReader
from taskfleet_core.statistics.rabbitmq import RabbitStatistics
from taskfleet_core.statistics.redis import RedisStatistics

__all__ = ["open_statistics"]


def open_statistics(
    broker_url: str, management_url: str | None = None, metrics_url: str | None = None, *, closely: bool = False
) -> StatisticsReader:
    """A reader for `amqp(s)://` or `redis(s)://`; by default metrics are sought on port 15692 of the broker's host.

    `closely`: for decisions each second. Depths are sharpened by passive declares where the broker's metrics lag, and
    `explain` tells a missing queue from an unreachable node.
    """
    if is_redis_url(broker_url):
        return RedisStatistics(broker_url)
    if is_amqp_url(broker_url):
        return RabbitStatistics(
            parse_amqp_url(broker_url), management_url=management_url, metrics_url=metrics_url, closely=closely
        )
    raise ValueError("the broker URL begins with none of amqp://, amqps://, redis://, rediss://")
