"""Sharing a limit between queues: what holds for all claims, and that a simulated fleet never exceeds its limits."""

import time
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskfleet_core.fleet import Claim, Limit, Member, allocate, share

KEYS = st.text("abcdef", min_size=1, max_size=3)
CLAIMS = st.dictionaries(
    KEYS,
    st.builds(
        Claim,
        wanted=st.integers(0, 30),
        guaranteed=st.integers(0, 8),
        priority=st.integers(-1, 2),
        order=st.sampled_from([0.0, 1.0, 2.0]),
        held=st.just(0),
    ),
    max_size=12,
)
LIMITS = st.integers(0, 80)


@pytest.mark.parametrize(
    ("limit", "claims", "expected"),
    [
        pytest.param(
            10, {"flood": Claim(50), "mail": Claim(3)}, {"flood": 7, "mail": 3}, id="who wants little gets it"
        ),
        pytest.param(10, {"a": Claim(50), "b": Claim(50)}, {"a": 5, "b": 5}, id="equals"),
        pytest.param(10, {"a": Claim(50), "b": Claim(50), "c": Claim(50)}, {"a": 4, "b": 3, "c": 3}, id="left over"),
        pytest.param(10, {"a": Claim(8), "b": Claim(8, priority=1)}, {"a": 2, "b": 8}, id="priority"),
        pytest.param(10, {"a": Claim(8, 3), "b": Claim(99, priority=1)}, {"a": 3, "b": 7}, id="minimum first"),
        pytest.param(3, {"a": Claim(8, 3), "b": Claim(9, 2, priority=1)}, {"a": 1, "b": 2}, id="minimums do not fit"),
        pytest.param(1, {"a": Claim(5, order=2.0), "b": Claim(5, order=1.0)}, {"a": 0, "b": 1}, id="order"),
        pytest.param(0, {"a": Claim(5)}, {"a": 0}, id="nothing"),
        pytest.param(9, {}, {}, id="nobody"),
        pytest.param(
            12, {"a": Claim(9, 6), "b": Claim(9), "c": Claim(9)}, {"a": 6, "b": 3, "c": 3}, id="from minimums"
        ),
    ],
)
def test_allocations(limit: int, claims: dict[str, Claim], expected: dict[str, int]) -> None:
    assert allocate(limit, claims) == expected


@given(LIMITS, CLAIMS)
def test_never_more_than_the_limit_nor_than_wanted_and_nothing_is_left_that_somebody_wants(
    limit: int, claims: dict[str, Claim]
) -> None:
    given_ = allocate(limit, claims)
    assert given_.keys() == claims.keys()
    assert all(0 <= given_[key] <= claim.wanted for key, claim in claims.items())
    assert sum(given_.values()) == min(limit, sum(claim.wanted for claim in claims.values()))


@given(LIMITS, CLAIMS)
def test_minimums_come_before_every_priority(limit: int, claims: dict[str, Claim]) -> None:
    given_ = allocate(limit, claims)
    promised = {key: min(claim.guaranteed, claim.wanted) for key, claim in claims.items()}
    if sum(promised.values()) <= limit:
        assert all(given_[key] >= promised[key] for key in claims)
    else:
        assert all(given_[key] <= promised[key] for key in claims)


@given(LIMITS, CLAIMS)
def test_within_a_priority_nobody_has_two_more_than_one_who_wants_more(limit: int, claims: dict[str, Claim]) -> None:
    """Max-min fair; with it nobody gets a second pod before each that wants one has its first."""
    given_ = allocate(limit, claims)
    for key, claim in claims.items():
        for other, rival in claims.items():
            if claim.priority == rival.priority and given_[key] < claim.wanted:
                assert given_[other] <= max(given_[key] + 1, min(rival.guaranteed, rival.wanted))


@given(LIMITS, CLAIMS)
def test_a_higher_priority_wants_nothing_more_before_a_lower_one_gets_more_than_its_minimum(
    limit: int, claims: dict[str, Claim]
) -> None:
    given_ = allocate(limit, claims)
    hungry = [claim.priority for key, claim in claims.items() if given_[key] < claim.wanted]
    for key, claim in claims.items():
        if hungry and claim.priority < max(hungry):
            assert given_[key] <= claim.guaranteed


@given(LIMITS, CLAIMS, st.randoms())
def test_the_same_claims_get_the_same_in_whatever_order_they_come(
    limit: int, claims: dict[str, Claim], random: Random
) -> None:
    shuffled = list(claims.items())
    random.shuffle(shuffled)
    assert allocate(limit, dict(shuffled)) == allocate(limit, claims)


@given(LIMITS, CLAIMS.filter(bool), st.data())
def test_more_of_anything_never_takes_from_who_has_it(
    limit: int, claims: dict[str, Claim], data: st.DataObject
) -> None:
    """A larger limit takes from nobody; a larger wish never gets less; a smaller wish of one gives to the others."""
    before = allocate(limit, claims)
    larger = allocate(limit + 1, claims)
    assert all(larger[key] >= before[key] for key in claims)
    key = data.draw(st.sampled_from(sorted(claims)))
    claim = claims[key]
    greedier = allocate(limit, claims | {key: claim._replace(wanted=claim.wanted + data.draw(st.integers(1, 9)))})
    assert greedier[key] >= before[key]
    assert all(greedier[other] <= before[other] for other in claims if other != key)


# -- several limits, and pods that somebody still holds --------------------------------------------------------------

MEMBERS = st.dictionaries(
    KEYS,
    st.builds(
        Member,
        group=st.sampled_from(["n1", "n2", "n3"]),
        wanted=st.integers(0, 20),
        guaranteed=st.integers(0, 3),
        priority=st.integers(0, 2),
        replicas=st.integers(0, 6),
        leaving=st.integers(0, 2),
        scales=st.sampled_from([True, True, True, False]),
    ),
    min_size=1,
    max_size=9,
)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Limit], dict[str, Member]]:
    """Members, a limit of all of them and up to three of some."""
    members = draw(MEMBERS)
    names = st.sets(st.sampled_from(sorted(members)), min_size=1)
    limits = [Limit(f"l{n}", draw(st.integers(0, 30)), frozenset(draw(names))) for n in range(draw(st.integers(0, 3)))]
    return [Limit("all", draw(st.integers(0, 40)), frozenset(members), by_group=True), *limits], members


def count_held(limit: Limit, members: dict[str, Member]) -> int:
    """Pods that count against a limit."""
    return sum(members[key].held for key in limit.members)


@given(fleets())
def test_no_limit_is_exceeded_by_what_is_given_and_nobody_who_works_is_taken(
    fleet: tuple[list[Limit], dict[str, Member]],
) -> None:
    """Who shrinks still holds its pods: what others may start fits beside them, under every limit."""
    limits, members = fleet
    shares = share(limits, members)
    for limit in limits:
        after = {
            key: max(members[key].held, shares[key].replicas + members[key].leaving)
            if key in shares
            else members[key].held
            for key in limit.members
        }
        assert sum(after.values()) <= max(limit.maximum, count_held(limit, members))
    assert all(
        0 <= got.replicas <= got.target <= members[key].wanted for key, got in shares.items() if got.replicas > 0
    )
    assert all(got.limit for key, got in shares.items() if got.replicas < members[key].wanted)
    assert all(members[key].scales for key in shares)


@settings(max_examples=50)
@given(fleets())
def test_the_shares_are_reached_and_then_stay(fleet: tuple[list[Limit], dict[str, Member]]) -> None:
    """Carrying out the shares round by round, pods finishing one by one, ends with each queue at its target."""
    limits, members = fleet
    settled = {}
    for _ in range(40):
        shares = share(limits, members)
        settled = {
            key: replace(
                member,
                replicas=shares[key].replicas if key in shares else member.replicas,
                leaving=max(0, member.leaving - 1) + max(0, member.replicas - shares[key].replicas)
                if key in shares
                else member.leaving,
            )
            for key, member in members.items()
        }
        if settled == members:
            break
        members = settled
    assert settled == members
    for key, got in share(limits, members).items():
        if not any(not members[other].scales for limit in limits for other in limit.members if key in limit.members):
            assert got.replicas == got.target


def test_a_newcomer_waits_for_pods_that_are_held_and_gets_those_that_go() -> None:
    """Two queues of ten: the flood holds all ten, then gives five away one by one."""
    limit = [Limit("ten", 10, ("flood", "mail"))]
    flood, mail = Member("n", 50, replicas=10), Member("n", 8)
    assert {key: got.replicas for key, got in share(limit, {"flood": flood, "mail": mail}).items()} == {
        "flood": 5,
        "mail": 0,
    }
    leaving = replace(flood, replicas=7, leaving=2)
    assert share(limit, {"flood": leaving, "mail": mail})["mail"].replicas == 1
    gone = replace(flood, replicas=5)
    assert share(limit, {"flood": gone, "mail": mail})["mail"].replicas == 5


def test_what_a_small_limit_denies_is_left_to_others_of_the_large_one() -> None:
    limits = [Limit("all", 10, ("a", "b")), Limit("only-a", 2, ("a",))]
    shares = share(limits, {"a": Member("n", 50), "b": Member("n", 50)})
    assert (shares["a"].replicas, shares["a"].limit) == (2, "only-a")
    assert (shares["b"].replicas, shares["b"].limit) == (8, "all")


def test_namespaces_share_first_whatever_priority_and_number_of_queues_they_have() -> None:
    members = {f"big/{n}": Member("big", 50, guaranteed=5, priority=9) for n in range(9)} | {
        "small/1": Member("small", 50)
    }
    shares = share([Limit("all", 20, tuple(members), by_group=True)], members)
    assert shares["small/1"].replicas == 10
    assert sum(got.replicas for key, got in shares.items() if key.startswith("big/")) == 10


def test_pods_that_nobody_here_scales_count_and_are_left_alone() -> None:
    limits = [Limit("ten", 10, ("external", "a", "b"))]
    members = {"external": Member("n", 0, replicas=6, scales=False), "a": Member("n", 9), "b": Member("n", 9)}
    assert {key: got.replicas for key, got in share(limits, members).items()} == {"a": 2, "b": 2}


def test_a_thousand_claims_are_divided_quickly() -> None:
    """Measured at 1.3 ms; the bound leaves room for a busy machine."""
    claims = {f"ns{n % 50}/q{n}": Claim(n % 51, n % 2, n % 3) for n in range(1000)}
    best = min(_time(claims) for _ in range(5))
    assert best < 0.025


def _time(claims: dict[str, Claim]) -> float:
    before = time.process_time()
    allocate(2000, claims)
    return time.process_time() - before
