"""Sharing a limited number of worker pods between queues. Pure: no clock, no client, no logger.

`allocate` divides one limit: first what is guaranteed, then the rest by priority; within a priority max-min fair: who
has the least gets the next pod, so that no queue gets a second pod before each that wants one has its first.
`share` applies several limits to the same queues, and never counts on pods that somebody still holds.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

__all__ = ["Claim", "Limit", "Member", "Share", "allocate", "share"]


class Claim(NamedTuple):  # a thousand are made for one allocation: a frozen dataclass costs three times as much
    """What one queue wants of a limit. Smaller `order` gets what is left over of equals, then the smaller key."""

    wanted: int
    guaranteed: int = 0  # of what is wanted, what goes before every priority
    priority: int = 0
    order: float = 0.0
    held: int = 0  # of what is wanted, what it has in any case, before all that is guaranteed


@dataclass(frozen=True, slots=True)
class Member:
    """One queue under limits."""

    group: str  # its namespace
    wanted: int  # replicas that the rule wants
    guaranteed: int = 0  # minReplicas, or the pin
    priority: int = 0
    order: float = 0.0
    replicas: int = 0  # pods that run or were asked for
    leaving: int = 0  # pods that finish their tasks and go
    scales: bool = True  # False: its pods are counted, and nobody here changes their number

    @property
    def held(self) -> int:
        """All its pods."""
        return self.replicas + self.leaving


@dataclass(frozen=True, slots=True)
class Limit:
    """Most pods of all `members` together; `by_group`: shared between namespaces first, whatever their queues ask."""

    name: str
    maximum: int
    members: Collection[str]
    by_group: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """What one queue may have: `target` in the end, `replicas` while others still hold pods; `limit` says by what."""

    target: int
    replicas: int
    limit: str | None = None


def allocate(limit: int, claims: Mapping[str, Claim]) -> dict[str, int]:
    """Divide `limit`: never more than it in all, never more than wanted for one; the same claims, the same result."""
    given = dict.fromkeys(claims, 0)
    left = max(0, limit)
    ranked = sorted((-claim.priority, claim.order, key) for key, claim in claims.items())
    classes = [[(key, claims[key]) for _, _, key in rows] for _, rows in groupby(ranked, key=lambda row: row[0])]
    for rows in classes:
        left -= _fill(given, {key: min(claim.held, claim.wanted) for key, claim in rows if claim.held}, left)
    for rows in classes:
        promised = {key: min(claim.guaranteed, claim.wanted) for key, claim in rows if claim.guaranteed}
        left -= _fill(given, promised, left)
    for rows in classes:
        left -= _fill(given, {key: claim.wanted for key, claim in rows}, left)
    return given


def _fill(given: dict[str, int], ceilings: Mapping[str, int], amount: int) -> int:
    """Raise the lowest first, nobody above its ceiling, by `amount` in all (the first ones of equals get what is left
    over); returns what was used."""
    open_ = {key: ceiling for key, ceiling in ceilings.items() if ceiling > given[key]}
    missing = sum(ceiling - given[key] for key, ceiling in open_.items())
    if missing <= amount:
        given.update(open_)
        return missing
    if amount <= 0:
        return 0
    # Each queue rises from what it has to its ceiling: at how many levels how many rise at once?
    steps = sorted([(given[key], 1) for key in open_] + [(ceiling, -1) for ceiling in open_.values()])
    level, rising, left = steps[0][0], 0, amount
    for at, change in steps:
        if rising * (at - level) > left:
            break
        left -= rising * (at - level)
        level, rising = at, rising + change
    more, left = divmod(left, rising)
    level += more
    for key, ceiling in open_.items():
        extra = int(left > 0 and given[key] <= level < ceiling)
        given[key] = max(given[key], min(ceiling, level)) + extra
        left -= extra
    return amount


def share(limits: Iterable[Limit], members: Mapping[str, Member]) -> dict[str, Share]:
    """What each member of a limit may have. All limits hold: the smaller come first, and what they deny is left to
    others by the larger. Together with the pods that are held nothing exceeds a limit that is not exceeded already."""
    ranked = sorted(limits, key=lambda limit: (limit.maximum, limit.name))
    keys = {key for limit in ranked for key in limit.members}
    wanted = {key: members[key].wanted if members[key].scales else members[key].held for key in keys}
    binding: dict[str, str] = {}
    for limit in ranked:
        fixed = {key: 0 if members[key].scales else members[key].held for key in limit.members}
        for key, count in _divide(limit, limit.maximum, members, wanted, fixed).items():
            if count < wanted[key] and members[key].scales:
                wanted[key], binding[key] = count, limit.name
    most = {key: max(wanted[key] + members[key].leaving, members[key].held) for key in keys}
    for limit in ranked:
        # Whoever holds a pod keeps it until it leaves by itself; only what is free is given away.
        held = {key: members[key].held for key in limit.members}
        for key, count in _divide(limit, max(limit.maximum, sum(held.values())), members, most, held).items():
            if count < most[key]:
                most[key] = count
                binding.setdefault(key, limit.name)
    return {
        key: Share(wanted[key], min(wanted[key], most[key] - members[key].leaving), binding.get(key))
        for key in keys
        if members[key].scales
    }


def _divide(
    limit: Limit, maximum: int, members: Mapping[str, Member], wanted: Mapping[str, int], floors: Mapping[str, int]
) -> dict[str, int]:
    """What each member gets of one limit, its floor before anything else; empty when all get what they want."""
    if sum(wanted[key] for key in limit.members) <= maximum:
        return {}
    claims = {
        key: Claim(wanted[key], members[key].guaranteed, members[key].priority, members[key].order, floors[key])
        for key in limit.members
    }
    if not limit.by_group:
        return allocate(maximum, claims)
    groups: dict[str, dict[str, Claim]] = {}
    for key, claim in claims.items():
        groups.setdefault(members[key].group, {})[key] = claim
    totals = {
        group: Claim(
            wanted=sum(claim.wanted for claim in inner.values()),
            held=sum(claim.held for claim in inner.values()),
            order=min((claim.order for claim in inner.values() if claim.wanted), default=0.0),
        )
        for group, inner in groups.items()
    }
    given: dict[str, int] = {}
    for group, count in allocate(maximum, totals).items():
        given |= allocate(count, groups[group])
    return given
