"""Signs of life in a real store: the dead are told from the living, whatever happens to the store."""

from collections.abc import AsyncIterator

import pytest
from tests.support.brokers import Valkey

from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.background.replicas import DEAD_LOOKS, Replicas
from taskfleet_api.live import LiveStore
from taskfleet_core.errors import StoreUnavailableError


@pytest.fixture
async def live(valkey: Valkey) -> AsyncIterator[LiveStore]:
    valkey.flush()
    store = LiveStore(valkey.url, timeout_seconds=1.0)
    yield store
    await store.close()


@pytest.fixture
def one(live: LiveStore) -> Replicas:
    return Replicas(live, BackgroundOptions(), "one")


@pytest.fixture
def two(live: LiveStore) -> Replicas:
    return Replicas(live, BackgroundOptions(), "two")


async def look(replicas: Replicas, times: int, *others: Replicas) -> None:
    for _ in range(times):
        for other in others:
            await other.step()
        await replicas.step()


async def test_the_living_are_never_dead(one: Replicas, two: Replicas) -> None:
    await look(one, 3 * DEAD_LOOKS, two)
    assert (one.living, two.living) == (2, 2)
    assert one.find_dead({"one", "two"}) == set()


async def test_whoever_gives_no_sign_for_three_looks_is_dead_until_the_next_sign(one: Replicas, two: Replicas) -> None:
    await two.step()
    await look(one, DEAD_LOOKS)
    assert one.find_dead({"two"}) == set()
    await one.step()
    assert (one.find_dead({"two"}), one.living) == ({"two"}, 1)
    await look(one, 1, two)
    assert (one.find_dead({"two"}), one.living) == (set(), 2)


async def test_a_process_that_never_gave_a_sign_gets_its_looks(one: Replicas) -> None:
    await one.step()
    assert one.find_dead({"unknown"}) == set()
    await look(one, DEAD_LOOKS)
    assert one.find_dead({"unknown"}) == set()
    await one.step()
    assert one.find_dead({"unknown"}) == {"unknown"}
    await one.forget("unknown")
    await one.step()
    assert one.find_dead(set()) == set()


async def test_an_emptied_store_kills_nobody(one: Replicas, two: Replicas, valkey: Valkey) -> None:
    await look(one, 2, two)
    for _ in range(2 * DEAD_LOOKS):
        valkey.flush()
        await look(one, 1, two)
        assert one.find_dead({"two"}) == set()


async def test_a_replica_that_leaves_is_no_more_counted(one: Replicas, two: Replicas) -> None:
    await look(one, 2, two)
    await two.leave()
    await one.step()
    assert one.living == 1


async def test_what_cannot_be_read_is_not_dead() -> None:
    """Others may have been cut off as well: all suspicion is forgotten."""
    server = Valkey()
    server.start()
    live = LiveStore(server.url, timeout_seconds=0.3)
    one, two = (Replicas(live, BackgroundOptions(), name) for name in ("one", "two"))
    try:
        await two.step()
        await look(one, DEAD_LOOKS)
        server.pause()
        with pytest.raises(StoreUnavailableError):
            await one.step()
        assert one.living == 2
        server.resume()
        await look(one, DEAD_LOOKS)
        assert one.find_dead({"two"}) == set()
        await one.step()
        assert one.find_dead({"two"}) == {"two"}
    finally:
        await live.close()
        server.stop()
