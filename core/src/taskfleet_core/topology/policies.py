"""Which policies RabbitMQ needs for which queues. Pure.

RabbitMQ tries every policy on every queue whenever one policy changes, and on each queue that is declared. So queues
with the same rules share policies: the names of many queues in one pattern. See docs/decisions/0010.
"""

import hashlib
import itertools
import json
import os.path
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from taskfleet_core import wire
from taskfleet_core.topology.model import QueueSpec

__all__ = ["DEAD_POLICY", "SHARED_PREFIX", "Policy", "SharedRules", "build_own_policy", "build_policy", "has_prefix"]

Definition = Mapping[str, Any]

# Only the policy of highest priority applies to a queue. People's own policies belong below both; shared ones win over
# those of a single queue, which an earlier release or a broker before its upgrade left behind.
OWN_PRIORITY, SHARED_PRIORITY = 100, 101
SHARED_PREFIX = "taskfleet:"  # a policy of one queue alone is called `taskfleet.<queue>`: the two never meet
PATTERN_MAX_BYTES = 1024  # RabbitMQ 4.3 refuses longer ones
APPLY_TO = "queues"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as it is at the broker, or shall be. Without a pattern it shall not be."""

    name: str
    pattern: str
    definition: Definition
    priority: int
    apply_to: str = APPLY_TO


# From 4.0 on every quorum queue drops messages after 20 deliveries; dead letters must outlive any outage. One for all,
# which gives way to whatever somebody has made for queues of this name, and to the rules of a TaskQueue that has it.
DEAD_POLICY = Policy(
    f"{SHARED_PREFIX}dead", f"{re.escape(wire.DEAD_SUFFIX)}$", {"delivery-limit": -1}, 1, "quorum_queues"
)


def has_prefix(name: str) -> bool:
    """Whether a policy is one of Taskfleet's."""
    return name.startswith((SHARED_PREFIX, wire.POLICY_PREFIX))


def build_policy(spec: QueueSpec, *, shared: bool) -> dict[str, Any]:
    """The rules of a queue, where `shared` without anything that only this queue has.

    At-least-once dead-lettering needs `reject-publish`, which is also what a length limit should do: the publisher sees
    a nack and the record stays pending, instead of the oldest message being dropped.
    """
    policy: dict[str, Any] = {"overflow": "reject-publish"}
    if spec.delivery_limit is not None:
        policy["delivery-limit"] = spec.delivery_limit
    if spec.dead_letter:
        policy["dead-letter-exchange"] = wire.DEAD_EXCHANGE if shared else ""
        policy["dead-letter-strategy"] = "at-least-once"
        if not shared:
            policy["dead-letter-routing-key"] = wire.dead_queue(spec.name)
    if spec.max_length is not None:
        policy["max-length"] = spec.max_length
    if spec.message_ttl_seconds is not None:
        policy["message-ttl"] = int(spec.message_ttl_seconds * 1000)
    if spec.consumer_timeout_seconds is not None:
        policy["consumer-timeout"] = int(spec.consumer_timeout_seconds * 1000)
    return policy


def build_own_policy(queue: str, definition: Definition) -> Policy:
    """The policy of a queue that shares none."""
    return Policy(wire.POLICY_PREFIX + queue, f"^{re.escape(queue)}$", definition, OWN_PRIORITY)


class SharedRules:
    """Which queues the shared policies at a broker name, and what has to change. A policy is called
    `taskfleet:<digest of its definition>:<number>`."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._names: dict[str, list[str]] = {}  # policy -> queues that it names
        self._full: set[str] = set()  # policies without room for another name
        self._definitions: dict[str, Definition] = {}
        self._homes: defaultdict[str, set[str]] = defaultdict(set)  # queue -> policies that name it
        for policy in policies:
            if policy.name.startswith(SHARED_PREFIX):
                self._names[policy.name] = names = _read_pattern(policy.pattern)
                self._definitions[policy.name] = policy.definition
                # What somebody has edited does not count as done, and is put right when one of its queues is.
                sound = (policy.priority, policy.apply_to) == (SHARED_PRIORITY, APPLY_TO)
                if sound and _digest(policy.definition) == _get_digest(policy.name):
                    for name in names:
                        self._homes[name].add(policy.name)

    def is_settled(self, queue: str, definition: Definition) -> bool:
        """Whether exactly the policies with these rules name the queue."""
        homes = self._homes.get(queue, ())
        return len(homes) == 1 and _get_digest(next(iter(homes))) == _digest(definition)

    def plan(self, wanted: Mapping[str, Definition | None]) -> Iterator[Policy]:
        """The policies to write, in this order: a queue comes to its new rules before it leaves the old ones.

        None as rules takes a queue out. Queues that are not wanted stay where they are: they are another writer's.
        """
        targets = {queue: _digest(rules) for queue, rules in wanted.items() if rules is not None}
        definitions = {targets[queue]: rules for queue, rules in wanted.items() if rules is not None}
        stay = {queue: self._find_home(queue, targets.get(queue)) for queue in wanted}
        joined = set()
        for queue, digest in sorted(targets.items()):  # names that begin alike share a pattern best
            if stay[queue] is None:
                stay[queue] = home = self._join(digest, queue)
                self._definitions[home] = definitions[digest]
                joined.add(home)
        yield from (self._build(name) for name in sorted(joined))
        for name, queues in sorted(self._names.items()):
            left = [queue for queue in queues if queue not in wanted or stay[queue] == name]
            if left != queues:
                self._names[name] = left
                yield self._build(name)

    def _find_home(self, queue: str, digest: str | None) -> str | None:
        return min((home for home in self._homes.get(queue, ()) if _get_digest(home) == digest), default=None)

    def _join(self, digest: str, queue: str) -> str:
        """Name a queue in the first policy of these rules that has room."""
        number = 0
        while True:
            name = f"{SHARED_PREFIX}{digest}:{number}"
            queues = self._names.setdefault(name, [])
            if queue in queues:
                return name
            if name not in self._full and (not queues or _fits([*queues, queue])):
                queues.append(queue)
                return name
            self._full.add(name)
            number += 1

    def _build(self, name: str) -> Policy:
        queues = self._names[name]
        return Policy(name, _build_pattern(queues) if queues else "", self._definitions[name], SHARED_PRIORITY)


def _fits(queues: list[str]) -> bool:
    return len(_build_pattern(queues).encode()) <= PATTERN_MAX_BYTES


def _build_pattern(queues: Iterable[str]) -> str:
    """Exactly these names, each common beginning once: what RabbitMQ does for a change grows with the bytes."""
    return f"^(?:{_join_names(sorted(queues))})$"


def _join_names(names: list[str]) -> str:
    """The alternatives of sorted names."""
    parts = []
    for _, group in itertools.groupby(names, key=lambda name: name[:1]):
        alike = list(group)
        start = os.path.commonprefix([alike[0], alike[-1]])  # noqa: RUF071 # no paths: by characters is meant
        rest = [name[len(start) :] for name in alike]
        parts.append(_escape(start) + (f"(?:{_join_names(rest)})" if len(rest) > 1 else ""))
    return "|".join(parts)


def _escape(text: str) -> str:
    # A hyphen means something within brackets only, and is in most names.
    return re.escape(text).replace("\\-", "-")


def _read_pattern(pattern: str) -> list[str]:
    """The queues in a pattern as `_build_pattern` makes it; none in another."""
    tokens = re.findall(r"\(\?:|\\.|.", pattern, re.DOTALL)
    if tokens[:2] != ["^", "(?:"] or tokens[-2:] != [")", "$"]:
        return []
    names = _read_names(iter(tokens[2:-1]))
    return names if pattern == _build_pattern(names) else []


def _read_names(tokens: Iterator[str]) -> list[str]:
    """The alternatives up to the end of their group."""
    names, starts = [], [""]
    for token in tokens:
        if token in {")", "|"}:
            names += starts
            starts = [""]
            if token == ")":
                return names
        else:
            ends = _read_names(tokens) if token == "(?:" else [token.removeprefix("\\")]
            starts = [start + end for start in starts for end in ends]
    return []


def _digest(definition: Definition) -> str:
    return hashlib.sha256(json.dumps(dict(definition), sort_keys=True).encode()).hexdigest()[:10]


def _get_digest(policy: str) -> str:
    return policy.removeprefix(SHARED_PREFIX).split(":")[0]
