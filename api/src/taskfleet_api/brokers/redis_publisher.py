"""Publishing to Redis/Valkey in the envelope of kombu's Redis transport, so that stock Celery workers read it.

Priorities: kombu serves four lists per queue and begins with its priority 0; the API's 9 is first, so it is reversed.
"""

import asyncio
import base64
import random
import uuid
from bisect import bisect
from collections import defaultdict
from collections.abc import Sequence

import msgspec
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from taskfleet_api.brokers.messages import LOWEST_PRIORITY, Message
from taskfleet_api.brokers.publishing import DEFAULT_WINDOW, FailureKind, PublishFailure
from taskfleet_core.addresses import redact_url
from taskfleet_core.backoff import decide_backoff_seconds
from taskfleet_core.ending import end_tasks
from taskfleet_core.statistics.redis import PRIORITY_STEPS, build_priority_key
from taskfleet_core.waiting import wait_for_event

__all__ = ["RedisPublisher", "build_envelope", "build_list_key"]

HIGHEST_PRIORITY = 9
PING_SECONDS = 5.0
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.2, 2.0
MAX_WRITE_BYTES = 4 * 1024 * 1024

_log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode
_NOT_CONNECTED = PublishFailure(FailureKind.CONNECTION, "not connected to the broker")
_NO_TURN = PublishFailure(FailureKind.TIMEOUT, "the calls before this one took longer than the time limit")


def _kombu_priority(priority: int | None) -> int:
    return HIGHEST_PRIORITY - (LOWEST_PRIORITY if priority is None else priority)


def build_list_key(queue: str, priority: int | None) -> str:
    """The list from which kombu serves messages of this API priority."""
    return build_priority_key(queue, PRIORITY_STEPS[bisect(PRIORITY_STEPS, _kombu_priority(priority)) - 1])


def build_envelope(message: Message) -> bytes:
    """What kombu itself would have pushed. The delivery tag identifies this publication."""
    properties = {
        "correlation_id": message.task_id,
        "reply_to": "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": message.queue},
        "priority": _kombu_priority(message.priority),
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    if message.expiration_seconds is not None:
        properties["expiration"] = str(max(0, int(message.expiration_seconds * 1000)))
    return _encode(
        {
            "body": base64.b64encode(message.body).decode("ascii"),
            "content-encoding": message.content_encoding,
            "content-type": message.content_type,
            "headers": message.headers,
            "properties": properties,
        }
    )


class RedisPublisher:
    """See `Publisher`. A message is confirmed by the answer to its LPUSH; nothing is ever `returned`."""

    def __init__(
        self,
        url: str,
        *,
        window: int = DEFAULT_WINDOW,
        timeout_seconds: float = 10.0,
        connect_timeout_seconds: float = 5.0,
    ) -> None:
        self._label = redact_url(url)
        self._window = window
        self._timeout_seconds = timeout_seconds
        self._turn = asyncio.Lock()
        # No retries inside the client: a push that may have arrived is the caller's to repeat.
        self._redis = Redis.from_url(
            url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=connect_timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=False,
            max_connections=4,
        )
        self._connected = asyncio.Event()
        self._doubtful = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the server answered last time."""
        return self._connected.is_set()

    @property
    def blocked(self) -> str | None:
        """Redis never blocks publishers; when out of memory it refuses each message."""
        return None

    async def start(self) -> None:
        """Begin to ask the server, until it answers and from then on now and then."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._keep_asking(), name="redis-publisher")

    async def wait_connected(self, timeout_seconds: float) -> bool:
        """Wait until the server answers, for at most that long."""
        return await wait_for_event(self._connected, timeout_seconds)

    async def close(self) -> None:
        """Close connections."""
        if self._supervisor is not None:
            await end_tasks([self._supervisor])
            self._supervisor = None
        self._connected.clear()
        await self._redis.aclose()

    async def publish(self, messages: Sequence[Message]) -> list[PublishFailure | None]:
        """See `Publisher`. One round trip per window."""
        results: list[PublishFailure | None] = [None] * len(messages)
        start = 0
        while start < len(messages):
            if not self.connected:
                results[start:] = [_NOT_CONNECTED] * (len(messages) - start)
                break
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await self._turn.acquire()
            except TimeoutError:
                results[start:] = [_NO_TURN] * (len(messages) - start)
                break
            try:
                start += await self._push_window(messages, results, start)
            finally:
                self._turn.release()
        return results

    async def _push_window(self, messages: Sequence[Message], results: list[PublishFailure | None], start: int) -> int:
        lists: defaultdict[str, list[bytes]] = defaultdict(list)
        places: defaultdict[str, list[int]] = defaultdict(list)
        size, index = 0, start
        for index in range(start, min(len(messages), start + self._window)):
            message = messages[index]
            try:
                envelope = build_envelope(message)
            except (ValueError, TypeError) as error:
                results[index] = PublishFailure(FailureKind.NACKED, f"cannot be sent as JSON: {error}")
                continue
            key = build_list_key(message.queue, message.priority)
            lists[key].append(envelope)
            places[key].append(index)
            size += len(envelope)
            if size >= MAX_WRITE_BYTES:
                break
        for key, failure in (await self._push(lists)).items():
            for place in places[key]:
                results[place] = failure
        return index + 1 - start

    async def _push(self, lists: dict[str, list[bytes]]) -> dict[str, PublishFailure]:
        """Push each list with one command; the failures by key."""
        if not lists:
            return {}
        try:
            async with asyncio.timeout(self._timeout_seconds), self._redis.pipeline(transaction=False) as pipe:
                for key, envelopes in lists.items():
                    pipe.lpush(key, *envelopes)
                answers = await pipe.execute(raise_on_error=False)
        except (TimeoutError, RedisTimeoutError):
            failure = PublishFailure(FailureKind.TIMEOUT, f"no answer within {self._timeout_seconds:g} s")
        except (RedisError, OSError) as error:
            failure = PublishFailure(FailureKind.CONNECTION, f"connection lost: {error}")
        else:
            return {
                key: _refusal(answer)
                for key, answer in zip(lists, answers, strict=True)
                if isinstance(answer, Exception)
            }
        self._connected.clear()
        self._doubtful.set()
        return dict.fromkeys(lists, failure)

    async def _keep_asking(self) -> None:
        failures = 0
        while True:
            self._doubtful.clear()
            error = await self._ask()
            if error is None:
                if not self.connected:
                    _log.info("broker.connected", broker=self._label)
                self._connected.set()
                failures = 0
                await wait_for_event(self._doubtful, PING_SECONDS)  # not that long when a push failed
                continue
            if self.connected or failures == 0:
                _log.warning("broker.connection_lost", broker=self._label, reason=error)
            self._connected.clear()
            failures += 1
            await asyncio.sleep(
                decide_backoff_seconds(failures, FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, random.random())
            )

    async def _ask(self) -> str | None:
        """PING; the reason when there is no good answer."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._redis.execute_command("PING")  # type: ignore[no-untyped-call]  # as redis-py has it
        except TimeoutError:
            return f"no answer within {self._timeout_seconds:g} s"
        except (RedisError, OSError) as error:
            return str(error)
        return None


def _refusal(answer: Exception) -> PublishFailure:
    if isinstance(answer, RedisConnectionError):
        return PublishFailure(FailureKind.CONNECTION, str(answer))
    kind = FailureKind.NACKED if isinstance(answer, ResponseError) else FailureKind.CONNECTION
    return PublishFailure(kind, str(answer))
