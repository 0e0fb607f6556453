"""What one replica knows of token buckets that all replicas share. Pure: the caller carries word to the store and back.

Of what a shared bucket held when last heard, a replica may spend its share, level / replicas, before it asks again. The
share grows by its part of the rate, so that without the store the replicas still keep the rate together. Of a bucket
that it has not heard of lately it spends no more than what a second brings.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from taskfleet_api.live.rates import RateUse

__all__ = ["BURST_SECONDS", "MAX_BUCKETS", "Buckets"]

BURST_SECONDS = 10.0
MAX_BUCKETS = 10_000
HEARD_SECONDS = 1.0  # so long a share is what it was
REFUSED_SECONDS = 0.1  # so long nobody asks again for a bucket that was found empty


@dataclass(slots=True)
class _Bucket:
    share: float  # what this replica may spend without asking
    at: float  # when the share was computed
    heard_at: float = -math.inf
    level: float = -math.inf  # what all together had when last heard, less what was spent here since; unknown: -inf
    unsettled: float = 0.0  # spent here and not yet told
    telling: float = 0.0  # of a settlement under way
    refused_until: float = 0.0


class Buckets:
    """A bucket for each name. One that holds a token takes a request of any size and goes into debt."""

    def __init__(self, kind: str, per_second: float, replicas: Callable[[], int], clock: Callable[[], float]) -> None:
        self._kind = kind
        self._rate = per_second
        self._full = max(1.0, per_second * BURST_SECONDS)
        self._replicas = replicas
        self._clock = clock
        self.alone = False  # the store does not answer
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._dirty: set[str] = set()

    def __len__(self) -> int:
        return len(self._buckets)

    def has_share(self, name: str) -> bool:
        """Whether this replica may spend without asking."""
        return self._get(name).share >= 1

    def has_token(self, name: str) -> bool:
        """Whether it may spend after it has asked, with an answer or without."""
        bucket = self._get(name)
        return bucket.share >= 1 or (bucket.level >= 1 and not self.alone)

    def is_refused(self, name: str) -> bool:
        """Whether the bucket was found empty just now."""
        return self._get(name).refused_until > self._clock()

    def refuse(self, name: str) -> None:
        """Nobody needs to ask again for a moment."""
        self._get(name).refused_until = self._clock() + min(REFUSED_SECONDS, self.find_wait(name))

    def find_wait(self, name: str) -> float:
        """Seconds until the name may spend; 0 for now."""
        bucket = self._get(name)
        missing = (1 - bucket.share) * self._replicas()
        return max(0.0, (missing if self.alone else min(missing, 1 - bucket.level)) / self._rate)

    def take(self, name: str, count: int) -> None:
        """Note what was spent; a negative count gives back."""
        bucket = self._get(name)
        bucket.share = min(self._find_most(bucket), bucket.share - count)
        bucket.level -= count
        bucket.unsettled += count
        if count < 0:
            bucket.refused_until = 0.0
        self._buckets.move_to_end(name)
        self._dirty.add(name)

    def want(self, name: str) -> None:
        """Let the next settlement ask for this bucket, too."""
        self._dirty.add(name)

    # --- settlements: begin, then either hear or give_back -------------------------------------------------------

    def begin(self) -> dict[str, RateUse]:
        """What to tell, by name. After an outage a share that has filled up meanwhile owes nothing."""
        told = {}
        for name in self._dirty:
            bucket = self._get(name)
            used = bucket.unsettled
            if self.alone:
                used = min(used, max(0.0, self._full / self._replicas() - bucket.share))
            bucket.telling, bucket.unsettled = used, 0.0
            told[name] = RateUse(f"{self._kind}:{name}", used, self._rate, self._full)
        self._dirty.clear()
        return told

    def hear(self, name: str, level: float) -> None:
        """What all together have left of the bucket."""
        bucket = self._get(name)
        bucket.level = level - bucket.unsettled
        bucket.share = level / self._replicas() - bucket.unsettled
        bucket.telling, bucket.heard_at = 0.0, bucket.at

    def give_back(self, name: str) -> None:
        """The store did not hear: to be told again."""
        bucket = self._get(name)
        bucket.unsettled += bucket.telling
        bucket.telling = 0.0
        self._dirty.add(name)

    def _get(self, name: str) -> _Bucket:
        """The bucket as it is now; one never seen is full."""
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(self._full, now)
            while len(self._buckets) > MAX_BUCKETS:
                forgotten, _ = self._buckets.popitem(last=False)
                self._dirty.discard(forgotten)
        filled = bucket.share + (now - bucket.at) * self._rate / self._replicas()
        bucket.at = now
        bucket.share = min(self._find_most(bucket), filled)
        return bucket

    def _find_most(self, bucket: _Bucket) -> float:
        """What the share may grow to: beside others, a replica that has not heard lately guesses cautiously."""
        replicas = self._replicas()
        knows = self.alone or replicas == 1 or bucket.at - bucket.heard_at <= HEARD_SECONDS
        return max(1.0, (self._full if knows else self._rate) / replicas)
