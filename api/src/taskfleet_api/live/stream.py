"""The event stream, read as a consumer group: every event is applied at least once, then acknowledged and deleted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError, ResponseError

from taskfleet_api.live.client import open_client, parse_event, parse_json
from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.events import TaskEvent
from taskfleet_core.store import guarded
from taskfleet_core.wire import EVENT_FIELD, EVENTS_STREAM, RECORDER_GROUP, SCHEMA_VERSION

__all__ = ["EventStream", "StreamEntry"]

MAX_BLOCK_SECONDS = 5.0

# In one step: a consumer that got an entry between a look and its removal would lose it.
_REMOVE_IDLE = """
local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local fields = {}
  for i = 1, #consumer, 2 do fields[consumer[i]] = consumer[i + 1] end
  if fields['pending'] == 0 and fields['idle'] > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], fields['name'])
    removed = removed + 1
  end
end
return removed
"""

# In one step: of several replicas that find a consumer dead, one gets each entry. No idle time is asked for, which
# Valkey would tell by a clock that may have been set back.
_TAKE_OVER = """
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[4], ARGV[2])
if #pending == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
  return {}
end
local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0}
for _, entry in ipairs(pending) do claim[#claim + 1] = entry[1] end
return redis.call(unpack(claim))
"""
MAX_TAKEN = 1000  # Lua's stack holds some thousand arguments


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry of the event stream; `event` is None when it cannot be read (its text is in `raw`)."""

    entry_id: str
    event: TaskEvent | None
    raw: str | None = None

    @property
    def is_newer_schema(self) -> bool:
        """Whether a newer release wrote it: not for this process, but not to be thrown away either."""
        value = None if self.event is not None else parse_json(self.raw)
        schema = value.get("schema") if isinstance(value, dict) else None
        return isinstance(schema, int) and schema > SCHEMA_VERSION


class EventStream:
    """Reads for the consumers of one process; the group is made when it is missing (also after a flush)."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._client = open_client(url, timeout_seconds=timeout_seconds, connections=8)
        # A read is never repeated blindly: what the lost answer held is read again as this consumer's own.
        self._reader = open_client(url, timeout_seconds=timeout_seconds + MAX_BLOCK_SECONDS, connections=4, retries=0)
        self._remove_idle = self._client.register_script(_REMOVE_IDLE)
        self._take_over = self._client.register_script(_TAKE_OVER)
        self._reads_own: set[str] = set()
        self._cursor = "0-0"

    async def close(self) -> None:
        """Close the connections."""
        await self._reader.aclose()
        await self._client.aclose()

    async def read(self, consumer: str, *, limit: int, block_seconds: float) -> list[StreamEntry]:
        """Read new entries; after a failed read first those that were delivered and never seen."""
        if consumer in self._reads_own:
            entries = await self._read(consumer, "0", limit, None)
            if entries:
                return entries
            self._reads_own.discard(consumer)
        return await self._read(consumer, ">", limit, min(block_seconds, MAX_BLOCK_SECONDS))

    async def _read(self, consumer: str, start: str, limit: int, block_seconds: float | None) -> list[StreamEntry]:
        block = None if block_seconds is None else max(1, int(block_seconds * 1000))
        try:
            async with guarded("reading the event stream", (block_seconds or 0) + 2 * self._timeout):
                try:
                    answer: Any = await self._reader.xreadgroup(
                        RECORDER_GROUP, consumer, {EVENTS_STREAM: start}, count=limit, block=block
                    )
                except ResponseError as error:
                    if "NOGROUP" not in str(error):
                        raise
                    await self._ensure_group()
                    return []
        except StoreUnavailableError:
            self._reads_own.add(consumer)
            raise
        return [_build_entry(entry_id, fields) for _, entries in answer or () for entry_id, fields in entries]

    async def reclaim(self, consumer: str, *, idle_seconds: float, limit: int) -> list[StreamEntry]:
        """Take over entries that were read long ago and never acknowledged."""
        async with guarded("reclaiming events", 2 * self._timeout):
            try:
                answer = await self._client.xautoclaim(
                    EVENTS_STREAM,
                    RECORDER_GROUP,
                    consumer,
                    min_idle_time=int(idle_seconds * 1000),
                    start_id=self._cursor,
                    count=limit,
                )
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                await self._ensure_group()
                return []
        self._cursor = answer[0]
        # 6.2 hands out deleted entries without an id; 7.0 and later drop them from the pending list themselves.
        return [_build_entry(entry_id, fields) for entry_id, fields in answer[1] if entry_id is not None]

    async def fetch_consumers(self) -> list[str]:
        """The names of all consumers of the group."""
        async with guarded("fetching consumers", 2 * self._timeout):
            try:
                found = await self._client.xinfo_consumers(EVENTS_STREAM, RECORDER_GROUP)
            except ResponseError as error:
                if _is_missing(error):
                    return []
                raise
        return [str(consumer["name"]) for consumer in found]

    async def take_over(self, dead: str, consumer: str, *, limit: int) -> list[StreamEntry]:
        """Take entries over from a consumer that reads no more; one that holds nothing is removed."""
        arguments: list[str | int] = [RECORDER_GROUP, dead, consumer, min(limit, MAX_TAKEN)]
        async with guarded(f"taking over from {dead}", 2 * self._timeout):
            try:
                answer: Any = await self._take_over(keys=[EVENTS_STREAM], args=arguments)
            except ResponseError as error:
                if _is_missing(error):
                    return []
                raise
        # Fields come from a script as they stand: name, value, name, value. 6.2 answers nil for deleted entries.
        return [
            _build_entry(entry[0], dict(zip(entry[1][::2], entry[1][1::2], strict=True))) for entry in answer if entry
        ]

    async def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """Acknowledge and delete in one transaction."""
        if not entry_ids:
            return
        async with guarded("acknowledging events", 2 * self._timeout), self._client.pipeline(transaction=True) as pipe:
            pipe.xack(EVENTS_STREAM, RECORDER_GROUP, *entry_ids)
            pipe.xdel(EVENTS_STREAM, *entry_ids)
            await pipe.execute()

    async def remove_idle_consumers(self, idle_seconds: float) -> int:
        """Remove consumers without pending entries that were silent for long."""
        async with guarded("removing idle consumers", 2 * self._timeout):
            try:
                return int(await self._remove_idle(keys=[EVENTS_STREAM], args=[RECORDER_GROUP, idle_seconds * 1000]))
            except ResponseError as error:
                if _is_missing(error):
                    return 0
                raise

    async def fetch_length(self) -> int:
        """Length of the stream."""
        async with guarded("fetching the stream's length", 2 * self._timeout):
            return int(await self._client.xlen(EVENTS_STREAM))

    async def _ensure_group(self) -> None:
        try:
            await self._client.xgroup_create(EVENTS_STREAM, RECORDER_GROUP, id="0", mkstream=True)
        except RedisError as error:
            if "BUSYGROUP" not in str(error):
                raise


def _is_missing(error: ResponseError) -> bool:
    """Whether there is no group, or no stream: so after a flush."""
    return "NOGROUP" in str(error) or "no such key" in str(error)


def _build_entry(entry_id: str, fields: dict[str, Any] | None) -> StreamEntry:
    raw = fields.get(EVENT_FIELD) if fields else None
    return StreamEntry(entry_id, parse_event(raw), raw)
