"""The server-side scripts: each changes everything that belongs together at once, or nothing.

A change repeated after a lost answer is refused by its position, so every script may be sent again.
"""

from __future__ import annotations

import hashlib

__all__ = ["BEGIN", "CHANGE", "NOTE", "PROGRESS", "Script"]


class Script:
    """Source and digest of one script."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


# KEYS: live state, events stream, Celery's result key
# ARGV: position, '1' if the same position may be written again, event, channel, seconds the live state stays,
#       bound of the stream, Celery's result ('' leaves its key alone), seconds that stays (0: for ever)
# Returns 1 done, 0 refused because something later is known, -1 the stream is full.
CHANGE = Script("""
local old = redis.call('HGET', KEYS[1], 'position')
if old then
  local was, is = tonumber(old), tonumber(ARGV[1])
  if is < was or (is == was and ARGV[2] == '0') then return 0 end
end
if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[6]) then return -1 end
redis.call('HSET', KEYS[1], 'position', ARGV[1], 'event', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('XADD', KEYS[2], '*', 'event', ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[3])
if ARGV[7] ~= '' then
  if ARGV[8] == '0' then redis.call('SET', KEYS[3], ARGV[7])
  else redis.call('SET', KEYS[3], ARGV[7], 'EX', ARGV[8]) end
  redis.call('PUBLISH', KEYS[3], ARGV[7])
end
return 1
""")

# KEYS: live state, events stream
# ARGV: position, event up to the value of progress_count, channel, seconds the live state stays,
#       bound of the stream (0: not into the stream this time)
# Returns the count, 0 when refused.
PROGRESS = Script("""
local old = redis.call('HGET', KEYS[1], 'position')
if old and tonumber(ARGV[1]) < tonumber(old) then return 0 end
local count = redis.call('HINCRBY', KEYS[1], 'progress_count', 1)
local event = ARGV[2] .. count .. '}'
redis.call('HSET', KEYS[1], 'progress', event)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('PUBLISH', ARGV[3], event)
local bound = tonumber(ARGV[5])
if bound > 0 and redis.call('XLEN', KEYS[2]) < bound then redis.call('XADD', KEYS[2], '*', 'event', event) end
return count
""")

# KEYS: live state
# ARGV: field, text, seconds the live state stays
NOTE = Script("""
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
""")

# Asked before a message runs that may have run before.
# KEYS: live state, cancelled ids of the queue
# ARGV: task id, position of a run of this delivery, delivery limit ('' when the broker counts),
#       seconds the live state stays
# Returns finished | cancelled | dead, or how often the attempt has begun again by now. Whatever lies behind `running`
# (a final state, Celery's retry, a later attempt) means that this copy has done its work. What leaving workers gave
# back (`returned`) does not count towards the limit: it was not the task's fault.
BEGIN = Script("""
local old = redis.call('HGET', KEYS[1], 'position')
if old and tonumber(old) > tonumber(ARGV[2]) then return 'finished' end
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 'cancelled' end
if old and math.floor(tonumber(old) / 1000000) < math.floor(tonumber(ARGV[2]) / 1000000) then
  redis.call('HDEL', KEYS[1], 'deliveries', 'returned')
end
local seen = redis.call('HINCRBY', KEYS[1], 'deliveries', 1)
redis.call('EXPIRE', KEYS[1], ARGV[4])
local returned = tonumber(redis.call('HGET', KEYS[1], 'returned') or 0)
if ARGV[3] ~= '' and seen - returned > tonumber(ARGV[3]) then return 'dead' end
return seen
""")
