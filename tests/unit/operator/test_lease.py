"""The Lease by itself: who may lead, until when, and what ends it."""

import asyncio
import copy

import pytest
from tests.support.waiting import eventually

from taskfleet_core.errors import ConflictError, NotFoundError, UnavailableError
from taskfleet_operator.lease import Lease


class Store:
    """One Lease object as the API server keeps it: versions, conflicts; `down` answers nothing."""

    def __init__(self):
        self.lease, self.version, self.down, self.slow = None, 0, False, 0.0
        self.looks = 0

    async def _answer(self):
        await asyncio.sleep(self.slow)
        if self.down:
            raise UnavailableError("no answer")

    async def get(self, kind, namespace, name):
        await self._answer()
        self.looks += 1
        if self.lease is None:
            raise NotFoundError(name)
        return copy.deepcopy(self.lease)

    async def create(self, manifest):
        await self._answer()
        if self.lease is not None:
            raise ConflictError("exists")
        return self._put(manifest)

    async def replace(self, manifest):
        await self._answer()
        if manifest["metadata"]["resourceVersion"] != str(self.version):
            raise ConflictError("changed")
        return self._put(manifest)

    async def wait_looks(self, more):
        """Until candidates have looked at it so many times more."""
        seen = self.looks
        await eventually(lambda: self.looks >= seen + more)

    def _put(self, manifest):
        self.version += 1
        self.lease = copy.deepcopy(manifest)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)


class Clock:
    """A clock that moves by hand."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
async def store():
    return Store()


def build(store, name, clock=None, duration=15.0, renew=0.01):
    fields = {"namespace": "n", "name": "l", "duration_seconds": duration, "renew_seconds": renew}
    return Lease(store, identity=name, monotonic=clock, **fields) if clock else Lease(store, identity=name, **fields)


async def test_only_one_of_many_leads(store):
    candidates = [build(store, f"c{n}") for n in range(5)]
    tasks = [asyncio.create_task(each.wait_acquired()) for each in candidates]
    await eventually(lambda: any(task.done() for task in tasks))
    await store.wait_looks(20)  # time enough for a second one to go wrong
    assert sum(each.is_leader for each in candidates) == 1
    assert store.lease["spec"]["leaseTransitions"] == 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_standby_waits_for_the_whole_duration_by_its_own_clock(store):
    clock = Clock()
    await build(store, "old", Clock()).wait_acquired()
    standby = build(store, "new", clock)
    task = asyncio.create_task(standby.wait_acquired())
    await store.wait_looks(2)
    clock.now += 14.9
    await store.wait_looks(2)
    assert not standby.is_leader
    clock.now += 0.2
    await eventually(lambda: standby.is_leader)
    await task
    assert store.lease["spec"]["leaseTransitions"] == 1


async def test_leader_stops_well_before_others_may_take_over(store):
    """Counted from before the request: what was answered late was held for less."""
    clock = Clock()
    leader = build(store, "old", clock)
    await leader.wait_acquired()
    clock.now += 9.9
    assert leader.is_leader
    clock.now += 0.2
    assert not leader.is_leader


async def test_leader_that_is_cut_off_loses(store):
    leader = build(store, "old", duration=0.9, renew=0.1)
    await leader.wait_acquired()
    store.down = True
    await asyncio.wait_for(leader.wait_lost(), 5)
    assert not leader.is_leader
    assert leader.problem == "no answer"


async def test_leader_that_hears_too_late_loses(store):
    leader = build(store, "old", duration=0.9, renew=0.1)
    await leader.wait_acquired()
    store.slow = 3.0
    await asyncio.wait_for(leader.wait_lost(), 2)
    assert not leader.is_leader


async def test_leader_keeps_the_lease_over_a_short_outage(store):
    leader = build(store, "old", duration=3.0, renew=0.05)
    await leader.wait_acquired()
    lost = asyncio.create_task(leader.wait_lost())
    store.down = True
    await eventually(lambda: leader.problem is not None)
    store.down = False
    version = store.version
    await eventually(lambda: store.version > version + 2)
    assert leader.is_leader
    assert not lost.done()
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)


async def test_leader_that_was_replaced_stops_at_once(store):
    leader = build(store, "old", renew=0.05)
    await leader.wait_acquired()
    store.lease["spec"]["holderIdentity"] = "new"
    await asyncio.wait_for(leader.wait_lost(), 5)
    assert not leader.is_leader
    assert store.lease["spec"]["holderIdentity"] == "new"


async def test_release_lets_the_next_lead_at_once(store):
    leader = build(store, "old")
    await leader.wait_acquired()
    await leader.release()
    assert not leader.is_leader
    await asyncio.wait_for(build(store, "new").wait_acquired(), 2)
    assert store.lease["spec"]["holderIdentity"] == "new"
