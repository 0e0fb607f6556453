"""Limits of several TaskQueues in the operator: what a claim changes for others, and what people are told."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.operator.builders import build_policy

from taskfleet_core.fleet import Member
from taskfleet_core.policy import LabelSelector, TaskQueuePolicy
from taskfleet_operator.fleet import FleetLimits, explain_allowance
from taskfleet_operator.fleet_pool import BELIEVED_SECONDS, EVERYWHERE, TURN_SECONDS, Allowance

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Site:
    """Queues whose pods come at once when asked for, and leave when the test says so."""

    maximum: int | None = None
    now: float = 1000.0
    changed: list[str] = field(default_factory=list)
    timers: list[Callable[[], None]] = field(default_factory=list)
    members: dict[str, Member] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fleet = FleetLimits(
            self.maximum, self.changed.append, lambda _, call: self.timers.append(call), lambda: self.now
        )

    def limit(self, name: str, maximum: int, **selector: object) -> None:
        """Put a policy."""
        self.fleet.put_policy(build_policy(name, maximum, **selector))

    def want(self, key: str, wanted: int, labels: dict[str, str] | None = None, **fields: int) -> Allowance | None:
        """One reconcile's claim of a queue, which is carried out if it grows."""
        member = self.members.get(key, Member(key.partition("/")[0], 0))
        member = replace(member, wanted=wanted, **fields)
        pool = self.fleet._get_pool(member.group)
        allowance = pool.claim(key, labels or {}, member, str(self.versions.get(key, 0)))
        asked = wanted if allowance is None else allowance.replicas
        self.members[key] = replace(member, replicas=max(member.replicas, asked))
        self.versions[key] = self.versions.get(key, 0) + (asked > member.replicas)
        return allowance

    def get_replicas(self) -> dict[str, int]:
        """The pods of each queue."""
        return {key: member.replicas for key, member in self.members.items() if member.replicas}

    def lose(self, key: str, count: int) -> None:
        """Some pods of a queue have left."""
        self.members[key] = replace(self.members[key], replicas=self.members[key].replicas - count)
        self.versions[key] += 1


def test_without_a_limit_everybody_has_what_it_wants() -> None:
    site = Site()
    assert site.want("n/a", 500) is None
    site.limit("other/ten", 10)
    assert site.want("n/a", 600) is None
    assert site.changed == []


def test_a_wish_that_fits_costs_nobody_anything() -> None:
    site = Site()
    site.limit("n/ten", 10)
    assert site.want("n/a", 6) is None
    assert site.want("n/b", 4) is None
    assert site.changed == []


def test_a_newcomer_takes_its_share_as_the_flood_gives_it_back() -> None:
    site = Site()
    site.limit("n/ten", 10)
    site.want("n/flood", 50)
    assert site.get_replicas() == {"n/flood": 10}
    allowance = site.want("n/mail", 8)
    assert allowance is not None
    assert (allowance.replicas, allowance.target, allowance.holders) == (0, 5, (("n/flood", 10),))
    assert site.changed == ["n/flood"]  # it learns at once that it has to shrink
    shrink = site.want("n/flood", 50)
    assert shrink is not None
    assert shrink.replicas == 5
    site.changed.clear()
    site.lose("n/flood", 2)
    site.want("n/flood", 50)
    assert site.changed == ["n/mail"]  # freed pods are offered to who waits, without anybody asking
    site.want("n/mail", 8)
    assert site.get_replicas() == {"n/flood": 8, "n/mail": 2}


def test_a_policy_that_goes_frees_those_that_it_held_back() -> None:
    site = Site()
    site.limit("n/ten", 10)
    site.want("n/flood", 50)
    site.want("n/mail", 8)
    site.changed.clear()
    site.fleet.remove_policy("n/ten")
    assert set(site.changed) == {"n/flood", "n/mail"}
    assert site.want("n/mail", 8) is None
    assert site.want("n/flood", 50) is None


def test_a_policy_selects_by_labels_and_follows_them() -> None:
    site = Site()
    site.limit("n/few", 2, matchExpressions=[{"key": "tier", "operator": "In", "values": ["low"]}])
    assert site.want("n/a", 9, {"tier": "low"}).replicas == 2
    assert site.want("n/b", 9, {"tier": "high"}) is None
    assert site.want("n/a", 9, {"tier": "high"}) is None
    assert dict(site.fleet.get_usages())["n/few"].queues == 0


def test_what_was_asked_for_is_believed_until_it_is_seen_or_has_failed() -> None:
    """Two reconciles at once: the second does not give away what the first is about to start."""
    site = Site()
    site.limit("n/ten", 10)
    pool = site.fleet._get_pool("n")
    a, b = Member("n", 6), Member("n", 10)
    assert pool.claim("n/a", {}, a, "1") is None
    assert pool.claim("n/b", {}, b, "1").replicas == 4
    assert pool.claim("n/a", {}, replace(a, wanted=20), "1").replicas == 5
    assert pool.claim("n/b", {}, b, "1").replicas == 4  # six are on their way for `a`, though its share is five now
    site.now += BELIEVED_SECONDS  # the write of `a` never came about, and it wants nothing any more
    assert pool.claim("n/a", {}, replace(a, wanted=0), "1") is None
    assert pool.claim("n/b", {}, b, "2") is None


def test_pods_that_a_deleted_queue_leaves_behind_count_until_they_are_gone() -> None:
    site = Site()
    site.limit("n/ten", 10)
    site.want("n/gone", 10)
    site.want("n/mail", 8)
    assert site.fleet.leave("n/gone", lambda: 7)
    assert site.want("n/mail", 8).replicas == 3
    assert not site.fleet.leave("n/gone", lambda: 0)
    assert site.want("n/mail", 8) is None


def test_pods_of_queues_that_no_reconcile_has_seen_yet_count() -> None:
    """An operator that starts knows of some queues sooner than of others."""
    site = Site()
    site.limit("n/ten", 10)
    site.fleet.seed("n/flood", {}, 9)
    assert site.want("n/mail", 8).replicas == 1
    site.fleet.drop_seeds({"n/flood"}.__contains__)
    assert site.want("n/mail", 8).replicas == 1
    site.fleet.drop_seeds({"n/mail"}.__contains__)  # it was deleted in these moments
    assert site.want("n/mail", 8) is None


def test_the_operators_limit_is_shared_between_namespaces_first() -> None:
    site = Site(maximum=12)
    for n in range(5):
        site.want(f"big/{n}", 50)
    site.want("small/a", 50)
    usage = dict(site.fleet.get_usages())[EVERYWHERE]
    assert (usage.maximum, usage.used, usage.queues) == (12, 12, 6)
    assert site.want("small/a", 50).target == 6


def test_many_changes_in_a_moment_are_divided_once() -> None:
    """The division took a second, so the next one comes after ten; until then nobody grows beyond its old share."""
    site = Site()
    site.limit("n/ten", 10)
    site.want("n/a", 50)
    pool = site.fleet._get_pool("n")
    pool._next_at = site.now + 10
    for n in range(20):
        assert site.want(f"n/{n}", 5).replicas == 0
    assert len(site.timers) == 1
    site.changed.clear()
    site.timers[0]()
    assert "n/a" in site.changed
    assert sum(site.get_replicas().values()) == 10


def test_where_there_are_fewer_pods_than_queues_each_has_its_turn() -> None:
    """Three floods, one pod: who has had it for a turn gives it to who has waited for a turn."""
    site = Site()
    site.limit("n/one", 1)
    keys = ["n/a", "n/b", "n/c"]
    served = []
    for _ in range(int(9 * TURN_SECONDS)):
        site.now += 1.0
        site.fleet.rotate()
        for key in keys:
            site.want(key, 5)
        for key in keys:  # a pod that must go is gone in a second
            allowance = site.want(key, 5)
            if allowance and allowance.replicas < site.members[key].replicas:
                site.lose(key, 1)
        assert sum(site.get_replicas().values()) <= 1
        now = next(iter(site.get_replicas()), None)
        if now and (not served or served[-1] != now):
            served.append(now)
    assert served[:6] == ["n/a", "n/b", "n/c", "n/a", "n/b", "n/c"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["n/a", "n/b", "n/c", "m/d", "m/e"]), st.integers(0, 12), st.integers(0, 3)),
        max_size=60,
    ),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_whatever_is_claimed_in_whatever_order_no_limit_is_ever_passed(
    steps: list[tuple[str, int, int]], everywhere: int, of_n: int
) -> None:
    """Each step: some pods of a queue leave where they have to, then it claims and acts on what it is told."""
    site = Site(maximum=everywhere)
    site.limit("n/some", of_n)
    for key, wanted, leaving in steps:
        held = site.members.get(key, Member("n", 0)).replicas
        allowance = site.want(key, wanted)
        allowed = wanted if allowance is None else allowance.replicas
        if held > allowed:
            site.lose(key, min(leaving, held - allowed))
        total = site.get_replicas()
        assert sum(total.values()) <= everywhere
        assert sum(count for name, count in total.items() if name.startswith("n/")) <= of_n


def test_a_policy_that_cannot_be_understood_keeps_its_last_good_version() -> None:
    site = Site()
    site.limit("n/ten", 10)
    site.limit("n/ten", "many")
    site.want("n/a", 50)
    assert site.get_replicas() == {"n/a": 10}
    ((_, status),) = site.fleet.build_statuses(NOW)
    ready = status["conditions"][0]
    assert (ready["status"], ready["reason"]) == ("False", "InvalidSpec")
    assert "maxReplicas" in ready["message"]


def test_the_status_of_a_policy_tells_limit_use_and_who_has_less() -> None:
    site = Site()
    site.limit("n/ten", 10)
    site.want("n/flood", 50)
    site.want("n/mail", 8)
    ((raw, status),) = site.fleet.build_statuses(NOW)
    assert {name: status[name] for name in ("observedGeneration", "limit", "used", "wanted", "queues")} == {
        "observedGeneration": 4,
        "limit": 10,
        "used": 10,
        "wanted": 58,
        "queues": 2,
    }
    limiting = status["conditions"][1]
    assert (limiting["type"], limiting["status"], limiting["reason"]) == ("Limiting", "True", "LimitReached")
    assert "flood 10" in limiting["message"]
    site.fleet.put_policy({**raw, "status": status})
    assert list(site.fleet.build_statuses(NOW)) == []  # what stands there is not written again


@pytest.mark.parametrize(
    ("allowance", "text"),
    [
        pytest.param(
            Allowance(2, 5, "n/shared", 10, (("n/flood", 7), ("n/mail", 1))),
            "TaskQueuePolicy shared with its 10 pods allows 2 of 8 replicas (5 once others have given theirs back): "
            "flood holds 7, mail holds 1",
            id="policy",
        ),
        pytest.param(
            Allowance(2, 2, "n/shared", 10, tuple((f"n/{n}", 2) for n in "abcde")),
            "TaskQueuePolicy shared with its 10 pods allows 2 of 8 replicas: a holds 2, b holds 2, c holds 2, others 4",
            id="many",
        ),
        pytest.param(
            Allowance(2, 2, EVERYWHERE, 10, (("secret/x", 7), ("n/mail", 1), ("n/a", 2))),
            "the operator's limit of 10 pods allows 2 of 8 replicas: this namespace holds 3, others 7",
            id="operator",
        ),
    ],
)
def test_who_has_the_pods_is_said_in_one_sentence(allowance: Allowance, text: str) -> None:
    assert explain_allowance("n/mail", allowance, 8) == text


def test_the_example_of_the_page_is_a_sound_policy() -> None:
    page = Path(__file__).parents[3] / "docs" / "fleet-limits.md"
    (document,) = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    assert TaskQueuePolicy.model_validate(yaml.safe_load(document)).spec.max_replicas == 10


@pytest.mark.parametrize(
    ("requirement", "matched"),
    [
        pytest.param({"operator": "In", "values": ["a", "b"]}, {"a"}, id="In"),
        pytest.param({"operator": "NotIn", "values": ["a", "b"]}, {"c", None}, id="NotIn"),
        pytest.param({"operator": "Exists"}, {"a", "c"}, id="Exists"),
        pytest.param({"operator": "DoesNotExist"}, {None}, id="DoesNotExist"),
    ],
)
def test_selectors_mean_what_they_mean_in_kubernetes(requirement: dict[str, Any], matched: set[str | None]) -> None:
    selector = LabelSelector.model_validate({"matchExpressions": [{"key": "tier", **requirement}]})
    labels: dict[str | None, dict[str, str]] = {None: {}} | {value: {"tier": value} for value in ("a", "c")}
    assert {value for value in labels if selector.matches(labels[value])} == matched
