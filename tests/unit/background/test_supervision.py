"""A background loop survives its failures, and its health tells."""

import asyncio

from tests.support.waiting import eventually

from taskfleet_api.background.supervision import Supervisor
from taskfleet_core.errors import StoreUnavailableError


async def test_a_failing_loop_goes_on_and_recovers() -> None:
    supervisor = Supervisor(backoff_first_seconds=0.001, backoff_max_seconds=0.01)
    broken, steps = True, 0

    async def step() -> float:
        nonlocal steps
        steps += 1
        if broken:
            raise StoreUnavailableError("away")
        return 0.001

    supervisor.start("loop", step)
    await eventually(lambda: supervisor.health()["loop"].consecutive_failures >= 3)
    assert supervisor.health()["loop"].last_error == "StoreUnavailableError: away"
    broken = False
    await eventually(lambda: supervisor.health()["loop"].consecutive_failures == 0)
    assert supervisor.health()["loop"].healthy
    await supervisor.stop()


async def test_one_loop_can_be_stopped_before_the_others() -> None:
    supervisor = Supervisor(backoff_first_seconds=0.001, backoff_max_seconds=0.01)
    ended: list[str] = []

    def make(name: str) -> None:
        async def step() -> float:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(name)
            return 0.0

        supervisor.start(name, step, endless=True)

    make("first")
    make("second")
    await eventually(lambda: len(supervisor.health()) == 2)
    await asyncio.sleep(0)
    await supervisor.stop("first")
    assert ended == ["first"]
    await supervisor.stop()
    assert ended == ["first", "second"]
