"""Limits on the worker pods of several TaskQueues: the policies of namespaces and the operator's own maximum.

Each reconcile says here what the scaling rule wants, and gets back what the limits leave of it. Knows no client.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import ValidationError

from taskfleet_core.fleet import Member
from taskfleet_core.policy import TaskQueuePolicy
from taskfleet_core.scaling import Cause, Decision, ScalingSpec
from taskfleet_operator.conditions import merge_conditions
from taskfleet_operator.fleet_pool import EVERYWHERE, Allowance, Pool, Usage
from taskfleet_operator.indexing import get_key
from taskfleet_operator.names import PolicyConditionType, Reason
from taskfleet_operator.observed import Observed
from taskfleet_operator.observing import explain_invalid, explain_unknown, parse_document
from taskfleet_operator.planning import get_replicas

__all__ = ["FleetLimits", "PolicyState", "explain_allowance"]

NAMED_HOLDERS = 3

Manifest = dict[str, Any]


@dataclass(slots=True)
class PolicyState:
    """A policy as read. `error` says why its newest version is not followed; an earlier one may be."""

    raw: Manifest
    policy: TaskQueuePolicy | None = None
    error: ValidationError | None = None
    unknown_fields: tuple[str, ...] = ()  # which a newer CRD lets through


@dataclass
class FleetLimits:
    """All limits of one operator. `on_change` hears of TaskQueues that may have another number of pods than before."""

    maximum: int | None
    on_change: Callable[[str], None]
    later: Callable[[float, Callable[[], None]], object]
    monotonic: Callable[[], float] = time.monotonic
    policies: dict[str, PolicyState] = field(default_factory=dict)
    _pools: dict[str, Pool] = field(default_factory=dict)

    def put_policy(self, raw: Manifest) -> None:
        """A policy is new or another one. What cannot be understood changes nothing but its status."""
        key = get_key(raw)
        state = self.policies.setdefault(key, PolicyState(raw))
        state.raw, before = raw, state.policy
        try:
            state.policy, state.unknown_fields = parse_document(TaskQueuePolicy, raw)
            state.error = None
        except ValidationError as error:
            state.error = error
            return
        spec = state.policy.spec
        if before is None or before.spec != spec:
            selects = partial(_selects, namespace=_get_namespace(key), matches=spec.selector.matches)
            self._get_pool(_get_namespace(key)).set_limit(key, spec.max_replicas, selects)

    def remove_policy(self, key: str) -> None:
        """A policy is gone, and its limit with it."""
        if self.policies.pop(key, None) is not None:
            self._get_pool(_get_namespace(key)).drop_limit(key)

    def seed(self, key: str, labels: Mapping[str, str], replicas: int) -> None:
        """A TaskQueue that no reconcile has seen yet: what it holds counts from the beginning."""
        namespace = _get_namespace(key)
        self._get_pool(namespace).seed(key, labels, Member(namespace, replicas, replicas=replicas))

    def limit(self, observed: Observed, decision: Decision, spec: ScalingSpec, acts: bool) -> Decision:
        """What the limits leave of a decision. `acts`: it will be carried out; else the pods count and stay."""
        if not acts or decision.cause is Cause.UNKNOWN:
            self.hold(observed)
            return decision
        present = _build_member(observed)
        wanted = decision.replicas if observed.topology_ready else min(decision.replicas, get_replicas(observed))
        member = replace(
            present,
            wanted=wanted,
            guaranteed=spec.min_replicas if spec.pinned_replicas is None else spec.pinned_replicas,
            priority=observed.queue.spec.scaling.priority,
        )
        allowance = self._claim(observed, member)
        if allowance is None:
            return decision
        reason = f"{explain_allowance(get_key(observed.raw), allowance, wanted)}; the rule says: {decision.reason}"
        return replace(decision, replicas=allowance.replicas, cause=Cause.FLEET, reason=reason)

    def hold(self, observed: Observed) -> None:
        """A TaskQueue whose pods nobody here scales at present: they count."""
        self._claim(observed, replace(_build_member(observed), scales=False))

    def leave(self, key: str, count_pods: Callable[[], int]) -> bool:
        """A TaskQueue is gone; the pods that it leaves behind count while there are any (True)."""
        return self._get_pool(_get_namespace(key)).leave(key, count_pods)

    def drop_seeds(self, is_known: Callable[[str], bool]) -> None:
        """Forget those that were seeded and deleted before anybody told of them."""
        for pool in self._pools.values():
            pool.drop_seeds(is_known)

    def rotate(self) -> None:
        """Give those their turn who have waited for a first pod; to be called each second."""
        for pool in self._pools.values():
            pool.rotate()

    def get_usages(self) -> Iterator[tuple[str, Usage]]:
        """The state of each limit by the key of its policy, or EVERYWHERE."""
        for pool in list(self._pools.values()):
            yield from pool.get_usages()

    def build_statuses(self, now: datetime) -> Iterator[tuple[Manifest, Manifest]]:
        """Each policy whose status is not what it should be, with the status that it should have."""
        usages = dict(self.get_usages())
        for key, state in self.policies.items():
            earlier = state.raw.get("status") or {}
            status = build_policy_status(state, usages.get(key), now)
            if status != {name: value for name, value in earlier.items() if value is not None}:
                yield state.raw, status

    def _claim(self, observed: Observed, member: Member) -> Allowance | None:
        version = observed.deployment["metadata"]["resourceVersion"] if observed.deployment else None
        labels = observed.queue.metadata.labels
        return self._get_pool(member.group).claim(get_key(observed.raw), labels, member, version)

    def _get_pool(self, namespace: str) -> Pool:
        """Namespaces have nothing to do with each other, unless there is a limit for all of them."""
        name = namespace if self.maximum is None else EVERYWHERE
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = Pool(self.on_change, self.later, self.monotonic)
            if self.maximum is not None:
                pool.set_limit(EVERYWHERE, self.maximum, lambda _key, _labels: True)
        return pool


def explain_allowance(key: str, allowance: Allowance, wanted: int) -> str:
    """By what a TaskQueue is limited and who has the pods. Other namespaces are not named to it."""
    namespace, own = _get_namespace(key), f"{allowance.replicas} of {wanted} replicas"
    if allowance.target > allowance.replicas:
        own += f" ({allowance.target} once others have given theirs back)"
    if allowance.limit == EVERYWHERE:
        total = sum(pods for _, pods in allowance.holders)
        here = sum(pods for holder, pods in allowance.holders if _get_namespace(holder) == namespace)
        held = f"this namespace holds {here}, others {total - here}"
        return f"the operator's limit of {allowance.maximum} pods allows {own}: {held}"
    named = [f"{holder.partition('/')[2]} holds {pods}" for holder, pods in allowance.holders[:NAMED_HOLDERS]]
    rest = sum(pods for _, pods in allowance.holders[NAMED_HOLDERS:])
    held = ", ".join([*named, *([f"others {rest}"] if rest else [])]) or "nobody holds any yet"
    name = allowance.limit.partition("/")[2]
    return f"TaskQueuePolicy {name} with its {allowance.maximum} pods allows {own}: {held}"


def build_policy_status(state: PolicyState, usage: Usage | None, now: datetime) -> Manifest:
    """The whole status of a policy."""
    generation = state.raw["metadata"].get("generation")
    if state.error is not None:
        kept = "the version before is followed" if state.policy else "nothing is limited by it"
        ready = ("False", Reason.INVALID_SPEC, f"{explain_invalid(state.error)}; {kept}")
    else:
        unknown = f"; {explain_unknown(state.unknown_fields)}" if state.unknown_fields else ""
        ready = ("True", Reason.APPLIED, f"the operator holds to it{unknown}")
    wanted = {PolicyConditionType.READY: ready}
    status: Manifest = {"observedGeneration": generation}
    if usage is not None:
        status |= {"limit": usage.maximum, "used": usage.used, "wanted": usage.wanted, "queues": usage.queues}
        wanted[PolicyConditionType.LIMITING] = _judge_usage(usage)
    earlier = (state.raw.get("status") or {}).get("conditions") or []
    status["conditions"] = merge_conditions(earlier, wanted, generation, now)
    return status


def _judge_usage(usage: Usage) -> tuple[str, Reason, str]:
    if not usage.denied and usage.used <= usage.maximum:
        return "False", Reason.WITHIN_LIMITS, f"all that is wanted fits into {usage.maximum} pods"
    most = ", ".join(f"{key.partition('/')[2]} {pods}" for key, pods in usage.holders[:NAMED_HOLDERS])
    waiting = f"{usage.denied} of {usage.queues} TaskQueues have less than they want"
    return "True", Reason.LIMIT_REACHED, f"{waiting}; who holds most: {most or 'nobody'}"


def _build_member(observed: Observed) -> Member:
    """The pods that a TaskQueue holds; those that were asked for and those that are on their way out count."""
    pods = [pod for pod in observed.pods if not pod.has_ended]
    alive = sum(not pod.is_terminating for pod in pods)
    replicas = max(get_replicas(observed), alive)
    namespace = observed.queue.metadata.namespace
    return Member(namespace, replicas, replicas=replicas, leaving=len(pods) - alive)


def _selects(
    key: str, labels: Mapping[str, str], *, namespace: str, matches: Callable[[Mapping[str, str]], bool]
) -> bool:
    return _get_namespace(key) == namespace and matches(labels)


def _get_namespace(key: str) -> str:
    return key.partition("/")[0]
