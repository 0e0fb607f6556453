"""Choosing the adapter by the scheme of a broker URL. Nothing is connected yet."""

from taskfleet_api.brokers.amqp_publisher import AmqpPublisher
from taskfleet_api.brokers.dead_letters import DeadLetters, NoDeadLetters
from taskfleet_api.brokers.publishing import DEFAULT_WINDOW, Publisher
from taskfleet_api.brokers.rabbitmq_dead_letters import RabbitDeadLetters
from taskfleet_api.brokers.redis_publisher import RedisPublisher
from taskfleet_core.addresses import is_amqp_url, is_redis_url, parse_amqp_url

__all__ = ["open_dead_letters", "open_publisher"]

_UNKNOWN_SCHEME = "the broker URL begins with none of amqp://, amqps://, redis://, rediss://"


def open_publisher(
    url: str, *, window: int = DEFAULT_WINDOW, timeout_seconds: float = 10.0, connect_timeout_seconds: float = 5.0
) -> Publisher:
    """A publisher for `amqp(s)://` or `redis(s)://`; call `start()`. `window` bounds the messages in flight."""
    if is_amqp_url(url):
        return AmqpPublisher(
            parse_amqp_url(url),
            window=window,
            timeout_seconds=timeout_seconds,
            connect_timeout_seconds=connect_timeout_seconds,
        )
    if is_redis_url(url):
        return RedisPublisher(
            url, window=window, timeout_seconds=timeout_seconds, connect_timeout_seconds=connect_timeout_seconds
        )
    raise ValueError(_UNKNOWN_SCHEME)


def open_dead_letters(url: str) -> DeadLetters:
    """Reader of dead-letter queues. On Redis there are none at the broker: its `run` only waits."""
    if is_amqp_url(url):
        return RabbitDeadLetters(parse_amqp_url(url))
    if is_redis_url(url):
        return NoDeadLetters()
    raise ValueError(_UNKNOWN_SCHEME)
