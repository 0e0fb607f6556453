"""Keeps the rules of queues at a RabbitMQ, as policies: shared ones from 4.0 on, one for each queue before.

RabbitMQ 4 tells with each dead letter in which queue it died last, so that one exchange can sort them. An older one
tells the first queue only, which for a delayed task is the queue of its delay: there each queue has to name its
dead-letter queue, in a policy of its own.
"""

import contextlib
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from taskfleet_core import wire
from taskfleet_core.amqp import AmqpSession
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.topology.locking import hold_lock
from taskfleet_core.topology.management import Management, PolicyRefusedError, Survey
from taskfleet_core.topology.model import Degradation, QueueSpec
from taskfleet_core.topology.policies import (
    DEAD_POLICY,
    Policy,
    SharedRules,
    build_own_policy,
    build_policy,
    has_prefix,
)

__all__ = ["DEAD_HEADER", "Rules", "explain_silence"]

DEAD_HEADER = "x-last-death-queue"
SHARING_VERSION = (4,)
# Policies of single queues are in the way of nothing once shared ones apply, and taking one away costs as much as
# setting one: it is done piece by piece.
RETIRE_SECONDS = 5.0
_FEATURES = {
    "delivery-limit": "delivery_limit",
    "dead-letter-exchange": "dead_letter",
    "dead-letter-routing-key": "dead_letter",
    "dead-letter-strategy": "dead_letter",
    "max-length": "max_length",
    "overflow": "max_length",
    "message-ttl": "message_ttl",
    "consumer-timeout": "consumer_timeout",
}


class Rules:
    """The policies of one broker. `version` is set by whoever connects."""

    def __init__(self, management: Management) -> None:
        self._management = management
        self._version: tuple[int, ...] = ()
        # What this broker refused in a policy, so that a look at what is there is not taken for drift each time.
        self._refused: set[tuple[str, Any]] = set()

    @property
    def version(self) -> tuple[int, ...]:
        """The broker's version; what an earlier one refused, another may take."""
        return self._version

    @version.setter
    def version(self, version: tuple[int, ...]) -> None:
        if version != self._version:
            self._version = version
            self._refused.clear()

    @property
    def are_shared(self) -> bool:
        """Whether queues share policies at this broker, and the dead-letter exchange."""
        return self._version >= SHARING_VERSION

    async def fetch_survey(self) -> Survey:
        """What is at the broker. Raises BrokerUnavailableError."""
        exchange = wire.DEAD_EXCHANGE if self.are_shared else None
        return await self._management.fetch_survey(exchange=exchange, header=DEAD_HEADER)

    def check(self, specs: Sequence[QueueSpec], survey: Survey) -> Iterator[list[Degradation] | None]:
        """For each queue what cannot be had of its rules, which stand; None when something is missing or differs."""
        shared = SharedRules(survey.policies.values()) if self.are_shared else None
        for spec in specs:
            rules, degradations = self._build(spec)
            if shared is None:
                own = build_own_policy(spec.name, rules)
                stands = survey.policies.get(own.name) == own
            else:
                stands = shared.is_settled(spec.name, rules)
                stands &= not spec.dead_letter or survey.policies.get(DEAD_POLICY.name) == DEAD_POLICY
            yield [*degradations, *_find_rival(spec.name, survey)] if stands else None

    async def settle_shared(self, session: AmqpSession, specs: Sequence[QueueSpec]) -> dict[str, list[Degradation]]:
        """Write the shared policies; what cannot be had, by queue. Only one writer at a time: a pattern is read,
        changed and written back."""
        while True:
            built = {spec.name: self._build(spec) for spec in specs}
            wanted = {queue: rules for queue, (rules, _) in built.items()}
            try:
                async with hold_lock(session):
                    present = await self._management.fetch_policies()
                    if DEAD_POLICY not in present:
                        await self._apply_locked(session, DEAD_POLICY)
                    for policy in SharedRules(present).plan(wanted):
                        await self._apply_locked(session, policy)
            except PolicyRefusedError as error:
                if not self._note_refusal(error):
                    return {spec.name: [Degradation(spec.name, "policy", str(error))] for spec in specs}
            except BrokerUnavailableError as error:
                return {spec.name: [explain_silence(spec.name, str(error))] for spec in specs}
            else:
                return {queue: degradations for queue, (_, degradations) in built.items()}

    async def settle_own(self, spec: QueueSpec) -> list[Degradation]:
        """Write the policies of one queue; what cannot be had."""
        while True:
            rules, degradations = self._build(spec)
            try:
                await self._management.apply_policy(build_own_policy(spec.name, rules))
            except PolicyRefusedError as error:
                if not self._note_refusal(error):
                    return [*degradations, Degradation(spec.name, "policy", str(error))]
            except BrokerUnavailableError as error:
                return [*degradations, explain_silence(spec.name, str(error))]
            else:
                return degradations

    async def retire_own(self, queues: Iterable[str], survey: Survey) -> None:
        """Take away policies of single queues that shared ones have replaced, as many as there is time for."""
        until = time.monotonic() + RETIRE_SECONDS
        names = [wire.POLICY_PREFIX + name for queue in queues for name in (queue, wire.dead_queue(queue))]
        for name in names:
            if name in survey.policies and time.monotonic() < until:
                with contextlib.suppress(BrokerUnavailableError):  # the next look finds it again
                    await self._management.apply_policy(Policy(name, "", {}, 0))

    async def remove(self, session: AmqpSession, queues: Collection[str]) -> None:
        """Have no rules for these queues. Raises BrokerUnavailableError."""
        if self.are_shared:
            async with hold_lock(session):
                for policy in SharedRules(await self._management.fetch_policies()).plan(dict.fromkeys(queues)):
                    await self._apply_locked(session, policy)
        for queue in queues:
            await self._management.apply_policy(Policy(wire.POLICY_PREFIX + queue, "", {}, 0))

    async def _apply_locked(self, session: AmqpSession, policy: Policy) -> None:
        if session.lost.done():
            raise BrokerUnavailableError(f"the lock of the shared policies is lost: {session.lost.result()}")
        await self._management.apply_policy(policy)

    def _build(self, spec: QueueSpec) -> tuple[dict[str, Any], list[Degradation]]:
        """The rules of a queue without what this broker is known to refuse."""
        rules = build_policy(spec, shared=self.are_shared)
        refused = [(key, value) for key, value in rules.items() if (key, value) in self._refused]
        for key, _ in refused:
            del rules[key]
        return rules, [_explain_refusal(spec.name, key, value) for key, value in refused]

    def _note_refusal(self, error: PolicyRefusedError) -> bool:
        """Remember what the broker does not take; False when its words name nothing that was asked for."""
        found = {item for item in error.definition.items() if item[0] in str(error)} - self._refused
        self._refused |= found
        return bool(found)


def explain_silence(queue: str, why: str) -> Degradation:
    """What it means that no policy could be written."""
    detail = (
        f"delivery limit, dead-lettering and lengths are not set: {why} (the management plugin must be reachable, "
        "by a user with the tag policymaker)"
    )
    return Degradation(queue, "policy", detail)


def _explain_refusal(queue: str, key: str, value: Any) -> Degradation:
    return Degradation(queue, _FEATURES[key], f"this RabbitMQ refuses {key} = {value!r} in a policy")


def _find_rival(queue: str, survey: Survey) -> list[Degradation]:
    """Which policy of somebody else's applies in place of ours."""
    _, applied = survey.queues.get(queue, ("", None))
    if applied is None or has_prefix(applied):
        return []
    detail = f"the policy {applied!r} applies in place of Taskfleet's: give it a priority below 100"
    return [Degradation(queue, "policy", detail)]
