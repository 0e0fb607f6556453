"""Shared token buckets: the store's and that of the unit tests keep one contract; clocks that step do no harm."""

import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from tests.support.brokers import Valkey
from tests.support.shared_rates import MemoryRates

from taskfleet_api.live import LiveStore
from taskfleet_api.live.rates import CHUNK, RateUse
from taskfleet_core import wire

SLOW = 0.001  # tokens a second: a test's time brings none


@pytest.fixture
async def live(valkey: Valkey) -> AsyncIterator[LiveStore]:
    valkey.flush()
    store = LiveStore(valkey.url, timeout_seconds=1.0)
    yield store
    await store.close()


@pytest.fixture
async def raw(valkey: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(valkey.url, decode_responses=True)
    yield client
    await client.aclose()


def use(used: float, name: str = "queue:a", rate: float = SLOW, full: float = 10) -> RateUse:
    return RateUse(name, used, rate, full)


@pytest.mark.parametrize("kind", ["memory", "store"])
async def test_one_contract(kind: str, live: LiveStore) -> None:
    settle = live.settle_rates if kind == "store" else MemoryRates(time.monotonic).settle
    assert await settle([use(0)]) == pytest.approx([10])
    assert await settle([use(4)]) == pytest.approx([6], abs=0.1)
    assert await settle([use(100), use(1, "queue:b")]) == pytest.approx([-94, 9], abs=0.1), "each its own, debts too"
    assert await settle([use(-50)]) == pytest.approx([-44], abs=0.1)
    assert await settle([use(-500)]) == pytest.approx([10]), "never more than full"
    assert await settle([use(3, rate=1e6)]) == pytest.approx([7])
    assert await settle([use(0, rate=1e6)]) == pytest.approx([10]), "time fills it"
    many = [use(1, f"queue:{number}") for number in range(CHUNK + 5)]
    assert await settle(many) == pytest.approx([9] * (CHUNK + 5), abs=0.1)


async def test_a_clock_that_goes_back_fills_nothing_and_keeps_nobody_waiting(
    live: LiveStore, raw: redis.asyncio.Redis
) -> None:
    key = wire.RATE_KEY_PREFIX + "queue:a"
    await live.settle_rates([use(8, rate=1)])
    await raw.hset(key, "at", str(time.time() + 3600))  # written before the clock went back by an hour
    assert await live.settle_rates([use(0, rate=1)]) == pytest.approx([2], abs=1)
    assert abs(float(str(await raw.hget(key, "at"))) - time.time()) < 60


async def test_a_bucket_that_is_full_again_is_forgotten(live: LiveStore, raw: redis.asyncio.Redis) -> None:
    key = wire.RATE_KEY_PREFIX + "queue:a"
    await live.settle_rates([use(50, rate=1)])
    assert 50 <= await raw.ttl(key) <= 52
    await live.settle_rates([use(-50, rate=1)])
    assert await raw.exists(key) == 0
