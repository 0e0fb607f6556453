"""Token buckets that all API replicas share. Valkey's own clock fills them: no two machines' clocks are compared."""

from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio

from taskfleet_core.store import guarded
from taskfleet_core.wire import RATE_KEY_PREFIX

__all__ = ["RateUse", "SharedRates"]

SETTLE_SECONDS = 0.5  # submissions may wait for it: better a guess than a long wait
CHUNK = 200  # buckets in one script: some tenths of a millisecond of Valkey's time

# A clock that goes back fills nothing and is followed; one that goes ahead fills the bucket, which is one burst.
# A bucket that would be full again is forgotten: absent is full.
_SETTLE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local levels = {}
for i, key in ipairs(KEYS) do
  local used, rate, full = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local kept = redis.call('HMGET', key, 'level', 'at')
  local level = full
  if kept[1] and kept[2] then level = tonumber(kept[1]) + math.max(0, now - tonumber(kept[2])) * rate end
  level = math.min(full, math.min(full, level) - used)
  if level < full then
    redis.call('HSET', key, 'level', string.format('%.6f', level), 'at', string.format('%.6f', now))
    redis.call('EXPIRE', key, math.min(2592000, math.ceil((full - level) / rate) + 1))
  else
    redis.call('DEL', key)
  end
  levels[i] = string.format('%.6f', level)
end
return levels
"""


@dataclass(frozen=True, slots=True)
class RateUse:
    """What one replica used of one bucket since it last told."""

    name: str  # such as `queue:thumbnails`
    used: float  # tokens; negative gives back
    rate: float  # tokens a second
    full: float  # tokens that the bucket holds at most


class SharedRates:
    """The buckets of one Valkey."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._settle = client.register_script(_SETTLE)

    async def settle(self, uses: Sequence[RateUse]) -> list[float]:
        """Note what was used; returns what each bucket holds now, below 0 for debts. Raises StoreUnavailableError."""
        levels: list[float] = []
        async with guarded("settling rates", SETTLE_SECONDS):
            for start in range(0, len(uses), CHUNK):
                part = uses[start : start + CHUNK]
                keys = [RATE_KEY_PREFIX + use.name for use in part]
                arguments = [value for use in part for value in (use.used, use.rate, use.full)]
                levels += [float(level) for level in await self._settle(keys=keys, args=arguments)]
        return levels
