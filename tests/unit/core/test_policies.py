"""Queues with the same rules share policies, and nothing that another writer has put there is lost."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskfleet_core.topology.policies import PATTERN_MAX_BYTES, Policy, SharedRules

LIMITS = [{"delivery-limit": number} for number in range(3)]
names = st.text("ab.-_+|(\\é9", min_size=1, max_size=30)


def apply(policies: Iterable[Policy], wanted: Mapping[str, Any]) -> list[Policy]:
    """The policies at the broker after a plan was carried out."""
    found = {policy.name: policy for policy in policies}
    for change in SharedRules(found.values()).plan(wanted):
        if change.pattern:
            found[change.name] = change
        else:
            del found[change.name]
    return list(found.values())


def find_rules(policies: Iterable[Policy], queue: str) -> list[Any]:
    return [policy.definition for policy in policies if re.fullmatch(policy.pattern, queue)]


@given(
    st.dictionaries(names, st.sampled_from(LIMITS), max_size=20),
    st.dictionaries(names, st.sampled_from([*LIMITS, None]), max_size=20),
)
def test_each_queue_has_its_rules_once_and_the_others_stay(first: dict[str, Any], second: dict[str, Any]) -> None:
    policies = apply(apply([], first), second)
    for queue, rules in (first | second).items():
        assert find_rules(policies, queue) == ([] if rules is None else [rules])
    rules = SharedRules(policies)
    assert all(rules.is_settled(queue, wanted) for queue, wanted in second.items() if wanted is not None)
    assert apply(policies, second) == policies
    assert list(rules.plan(second)) == []


def test_at_no_moment_of_a_change_is_a_queue_without_rules() -> None:
    queues = [f"queue-{number}" for number in range(30)]
    before = apply([], {queue: LIMITS[index % 2] for index, queue in enumerate(queues)})
    found = {policy.name: policy for policy in before}
    for change in SharedRules(before).plan({queue: LIMITS[1 - index % 2] for index, queue in enumerate(queues)}):
        found[change.name] = change
        assert all(find_rules((policy for policy in found.values() if policy.pattern), queue) for queue in queues)


def test_a_thousand_queues_need_few_policies_within_the_limit_of_patterns() -> None:
    queues = {f"ns{number % 50:02}.queue-{number:04}": LIMITS[0] for number in range(1000)}
    policies = apply([], queues)
    assert len(policies) <= 9
    assert all(len(policy.pattern.encode()) <= PATTERN_MAX_BYTES for policy in policies)
    (change,) = SharedRules(policies).plan({"one-more": LIMITS[0]})
    assert "one-more" in change.pattern


def test_a_name_that_is_too_long_for_a_shared_pattern_has_a_policy_of_its_own() -> None:
    policies = apply([], {"a": LIMITS[0], "." * 255: LIMITS[0], "-" * 255: LIMITS[0], "+" * 255: LIMITS[0]})
    assert all(len(policy.pattern.encode()) <= PATTERN_MAX_BYTES for policy in policies)


def test_what_somebody_edited_is_put_right() -> None:
    (policy,) = apply([], {"a": LIMITS[0], "b": LIMITS[0]})
    for edited in (
        Policy(policy.name, policy.pattern, LIMITS[2], policy.priority),
        Policy(policy.name, policy.pattern, policy.definition, 7),
        Policy(policy.name, policy.pattern, policy.definition, policy.priority, "exchanges"),
        Policy(policy.name, "^a", policy.definition, policy.priority),
    ):
        assert not SharedRules([edited]).is_settled("a", LIMITS[0])
        (mended,) = apply([edited], {"a": LIMITS[0], "b": LIMITS[0]})
        assert mended == policy
