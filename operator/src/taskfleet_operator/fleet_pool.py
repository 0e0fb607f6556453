"""TaskQueues whose limits depend on each other: what each one claims and holds, and what it may have. Knows no client.

Nothing is divided while everybody's wish fits. Where it does not, a claim that changes divides anew, at once or, where
that was done a moment ago, soon: many queues cost a tenth of the time at most.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from taskfleet_core.fleet import Limit, Member, Share, share

__all__ = ["BELIEVED_SECONDS", "EVERYWHERE", "TURN_SECONDS", "Allowance", "Pool", "Usage"]

EVERYWHERE = ""  # name of the operator's own limit, which no policy has
COMPUTING_SHARE = 0.1  # of its time: to divide between a thousand queues takes some 8 ms
BELIEVED_SECONDS = 5.0  # that what was asked for is on its way, while the Deployment is seen as before
TURN_SECONDS = 60.0  # where there are fewer pods than queues, so long each keeps its pod before the next one's turn

Holders = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a limit leaves one TaskQueue: `replicas` now, `target` once others have given back what they must."""

    replicas: int
    target: int
    limit: str  # key of the policy, or EVERYWHERE
    maximum: int
    holders: Holders = ()  # TaskQueue and its pods, who has most first


@dataclass(frozen=True, slots=True)
class Usage:
    """The state of one limit."""

    maximum: int
    used: int
    wanted: int
    queues: int
    denied: int  # TaskQueues that have less than they want because of it
    holders: Holders = ()


@dataclass(slots=True)
class _Claim:
    member: Member
    labels: Mapping[str, str]
    limits: list[str] = field(default_factory=list)
    version: str | None = None  # of the Deployment that was seen
    granted: int = 0  # replicas that it was allowed to ask for then
    granted_at: float = 0.0
    waits_since: float = 0.0
    served_since: float | None = None
    is_seed: bool = False  # nothing has been decided about it yet

    @property
    def demand(self) -> int:
        """Its pods if nobody limited it."""
        member = self.member
        return max(member.held, member.wanted + member.leaving) if member.scales else member.held


@dataclass
class Pool:
    """See the module. `on_change` hears of TaskQueues that may have another number of pods than a moment ago; `later`
    calls a function after some seconds."""

    on_change: Callable[[str], None]
    later: Callable[[float, Callable[[], None]], object]
    monotonic: Callable[[], float]
    _maxima: dict[str, int] = field(default_factory=dict)
    _selects: dict[str, Callable[[str, Mapping[str, str]], bool]] = field(default_factory=dict)
    _claims: dict[str, _Claim] = field(default_factory=dict)
    _members: dict[str, set[str]] = field(default_factory=dict)  # of each limit
    _demands: dict[str, int] = field(default_factory=dict)
    _tight: set[str] = field(default_factory=set)  # limits below the demand
    _shares: dict[str, Share] = field(default_factory=dict)  # of the members of tight limits
    _holders: dict[str, Holders] = field(default_factory=dict)
    _next_at: float = 0.0
    _is_due: bool = False

    def set_limit(self, name: str, maximum: int, selects: Callable[[str, Mapping[str, str]], bool]) -> None:
        """Add or replace a limit of the TaskQueues (key, labels) that `selects` picks."""
        self._maxima[name], self._selects[name] = maximum, selects
        self._regroup()

    def drop_limit(self, name: str) -> None:
        """Take a limit away."""
        if self._maxima.pop(name, None) is not None:
            del self._selects[name]
            self._regroup()

    def seed(self, key: str, labels: Mapping[str, str], member: Member) -> None:
        """A TaskQueue that nothing has decided about yet: what it holds counts from the beginning."""
        if key not in self._claims:
            self._enrol(key, _Claim(member, labels, is_seed=True))

    def claim(self, key: str, labels: Mapping[str, str], member: Member, version: str | None) -> Allowance | None:
        """What a TaskQueue wants and holds, its Deployment being at `version`; None: it may have all that it wants."""
        now = self.monotonic()
        claim = self._claims.get(key)
        if claim is None:
            claim = _Claim(replace(member, wanted=0), labels)
            self._enrol(key, claim)
        elif claim.labels != labels:
            claim.labels = labels
            self._regroup()
        claim.is_seed = False
        if member.wanted and not claim.member.wanted:
            claim.waits_since = now
        is_believed = member.scales and claim.version == version and now - claim.granted_at < BELIEVED_SECONDS
        sent = claim.granted if is_believed else 0
        claim.version = version
        self._update(key, replace(member, order=claim.waits_since, replicas=max(member.replicas, sent)))
        allowance = self._find_allowance(key, claim, member.replicas)
        granted = member.wanted if allowance is None else allowance.replicas
        if granted > sent or not is_believed:
            claim.granted, claim.granted_at = granted, now
        if claim.member.scales and claim.granted > claim.member.replicas:
            claim.member = replace(claim.member, replicas=claim.granted)  # from now on nobody else may have these
        return allowance

    def leave(self, key: str, count_pods: Callable[[], int]) -> bool:
        """A TaskQueue is gone; the pods that it leaves behind count while there are any (True)."""
        claim = self._claims.get(key)
        if claim is None:
            return False
        pods = count_pods() if claim.limits else 0
        self._update(key, Member(claim.member.group, 0, leaving=pods, scales=False))
        if not pods:
            self._withdraw(key)
        return pods > 0

    def drop_seeds(self, is_known: Callable[[str], bool]) -> None:
        """Forget those that were seeded and deleted before anybody told of them."""
        for key in [key for key, claim in self._claims.items() if claim.is_seed and not is_known(key)]:
            self.leave(key, lambda: 0)

    def rotate(self) -> None:
        """Who has waited a turn for a first pod gets the place of one who has had a pod for a turn."""
        now = self.monotonic()
        for limit in self._tight:
            rows = [(self._claims[key], self._shares.get(key)) for key in sorted(self._members[limit])]
            waiting = [claim for claim, got in rows if got and claim.member.wanted and not got.target]
            for waiter in (claim for claim in waiting if now - claim.waits_since >= TURN_SECONDS):
                served = [
                    claim
                    for claim, _ in rows
                    if claim.member.priority == waiter.member.priority
                    and claim.member.scales
                    and not claim.member.guaranteed
                    and claim.served_since is not None
                    and now - claim.served_since >= TURN_SECONDS
                ]
                if served:
                    first = min(served, key=lambda claim: claim.waits_since)
                    first.waits_since, first.served_since = now, None
                    first.member = replace(first.member, order=now)
                    self._is_due = True
        self._compute_if_due()

    def get_usages(self) -> Iterator[tuple[str, Usage]]:
        """The state of each limit. Also for other threads: what comes or goes meanwhile is passed over."""
        for limit, maximum in list(self._maxima.items()):
            keys = list(self._members.get(limit, ()))
            rows = [(claim, self._shares.get(key)) for key in keys if (claim := self._claims.get(key))]
            yield (
                limit,
                Usage(
                    maximum=maximum,
                    used=sum(claim.member.held for claim, _ in rows),
                    wanted=sum(claim.member.wanted if claim.member.scales else claim.member.held for claim, _ in rows),
                    queues=len(rows),
                    denied=sum(
                        got is not None and got.limit == limit and got.replicas < c.member.wanted for c, got in rows
                    ),
                    holders=self._find_holders(limit),
                ),
            )

    # -- inside ----------------------------------------------------------------------------------------------------

    def _enrol(self, key: str, claim: _Claim) -> None:
        self._claims[key] = claim
        claim.limits = [limit for limit, selects in self._selects.items() if selects(key, claim.labels)]
        for limit in claim.limits:
            self._members[limit].add(key)
            self._demands[limit] += claim.demand

    def _withdraw(self, key: str) -> None:
        claim = self._claims.pop(key)
        self._shares.pop(key, None)
        for limit in claim.limits:
            self._members[limit].discard(key)
            self._demands[limit] -= claim.demand

    def _regroup(self) -> None:
        """Put every TaskQueue under its limits anew."""
        self._members = {limit: set() for limit in self._maxima}
        self._demands = dict.fromkeys(self._maxima, 0)
        for key, claim in self._claims.items():
            self._enrol(key, claim)
        self._find_tight()
        self._compute()

    def _update(self, key: str, member: Member) -> None:
        claim = self._claims[key]
        if member == claim.member:
            return
        before = claim.demand
        claim.member = member
        for limit in claim.limits:
            self._demands[limit] += claim.demand - before
        was_tight = bool(self._tight)
        self._find_tight()
        if not claim.limits or not (was_tight or self._tight):
            return
        now = self.monotonic()
        if now >= self._next_at:
            self._compute(key)
        elif not self._is_due:
            self._is_due = True
            self.later(self._next_at - now, self._compute_if_due)

    def _find_tight(self) -> None:
        self._tight = {limit for limit, demand in self._demands.items() if demand > self._maxima[limit]}

    def _compute_if_due(self) -> None:
        if self._is_due:
            self._compute()

    def _compute(self, but: str | None = None) -> None:
        """Divide, and tell of those for whom it changes something."""
        started, before = self.monotonic(), self._shares
        limits = [Limit(name, self._maxima[name], self._members[name], name == EVERYWHERE) for name in self._maxima]
        members = {key: claim.member for key, claim in self._claims.items()}
        self._shares = share(limits, members) if self._tight else {}
        self._holders.clear()
        ended = self.monotonic()
        self._is_due, self._next_at = False, ended + (ended - started) / COMPUTING_SHARE
        for key in before.keys() | self._shares.keys():
            claim = self._claims.get(key)
            if claim is None:
                continue
            wanted, old, new = claim.member.wanted, before.get(key), self._shares.get(key)
            has_turn = (new.target if new else wanted) > 0
            claim.served_since = None if not has_turn else ended if claim.served_since is None else claim.served_since
            if key != but and (min(old.replicas, wanted) if old else wanted) != (new.replicas if new else wanted):
                self.on_change(key)

    def _find_allowance(self, key: str, claim: _Claim, present: int) -> Allowance | None:
        tight = [limit for limit in claim.limits if limit in self._tight]
        if not tight or not claim.member.scales:
            return None
        # Without a share its limits have become too small a moment ago: it waits for the division.
        got = self._shares.get(key) or Share(present, present)
        if got.replicas >= claim.member.wanted:
            return None
        limit = got.limit if got.limit in self._maxima else tight[0]
        assert limit is not None
        return Allowance(got.replicas, got.target, limit, self._maxima[limit], self._find_holders(limit))

    def _find_holders(self, limit: str) -> Holders:
        known = self._holders.get(limit)
        if known is None:
            keys = list(self._members.get(limit, ()))
            held = [(key, claim.member.held) for key in keys if (claim := self._claims.get(key)) and claim.member.held]
            known = self._holders[limit] = tuple(sorted(held, key=lambda row: (-row[1], row[0])))
        return known
