"""Messages that workers took from a Redis/Valkey broker and have not acknowledged, as kombu keeps them."""

import json
from typing import Any

from taskfleet_api.live.client import open_client, parse_json
from taskfleet_core.store import guarded
from taskfleet_core.wire import UNACKED_INDEX_KEY_PREFIX, UNACKED_KEY_PREFIX

__all__ = ["UnackedMessages"]

MAX_HELD = 10_000  # messages looked at per queue; a worker holds a few
PRIORITY_SEPARATOR = "\x06\x16"  # kombu's, between queue name and priority step

# Only who takes the entry out puts the message back: two replicas, or replica and worker, never both.
_RESTORE = """
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[2])
return 1
"""


class UnackedMessages:
    """Reads and puts back; has its own client because the broker need not be the live store's Redis."""

    def __init__(self, broker_url: str, *, timeout_seconds: float = 2.0) -> None:
        self._timeout = timeout_seconds
        self._client = open_client(broker_url, timeout_seconds=timeout_seconds, connections=4)
        self._restore = self._client.register_script(_RESTORE)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def fetch(self, queue: str) -> dict[str, str]:
        """Delivery tag -> task id of what is in workers' hands."""
        async with guarded(f"fetching unacknowledged messages of {queue}", 2 * self._timeout):
            if not await self._client.exists(UNACKED_KEY_PREFIX + queue):
                return {}
            held: dict[str, str] = {}
            async for tag, text in self._client.hscan_iter(UNACKED_KEY_PREFIX + queue, count=200):
                held[tag] = _task_id(text)
                if len(held) >= MAX_HELD:
                    break
            return held

    async def restore(self, queue: str, tag: str) -> bool:
        """Put one message back at the head of its queue, marked as redelivered; False if it was gone."""
        async with guarded(f"restoring a message of {queue}", 2 * self._timeout):
            text = await self._client.hget(UNACKED_KEY_PREFIX + queue, tag)
            value = parse_json(text)
            if not isinstance(value, list) or len(value) < 3 or not isinstance(value[0], dict):
                return False
            message = value[0]
            info = message.setdefault("properties", {}).setdefault("delivery_info", {})
            message.setdefault("headers", {})["redelivered"] = True
            info["redelivered"] = True
            # A worker of several queues keeps all its messages in one place, named after the first.
            home = value[2] if isinstance(value[2], str) and value[2] else queue
            keys = [UNACKED_KEY_PREFIX + queue, UNACKED_INDEX_KEY_PREFIX + queue, _queue_key(home, message)]
            return bool(await self._restore(keys=keys, args=[tag, json.dumps(message)]))


def _task_id(text: str) -> str:
    value = parse_json(text)
    message = value[0] if isinstance(value, list) and value else None
    if not isinstance(message, dict):
        return ""
    properties, headers = message.get("properties") or {}, message.get("headers") or {}
    return str(headers.get("id") or properties.get("correlation_id") or "")


def _queue_key(queue: str, message: dict[str, Any]) -> str:
    """kombu's key of the list for the message's priority: 0 has no suffix, steps are 0, 3, 6 and 9."""
    priority = message["properties"].get("priority") or 0
    step = max((step for step in (0, 3, 6, 9) if step <= priority), default=0)
    return f"{queue}{PRIORITY_SEPARATOR}{step}" if step else queue
