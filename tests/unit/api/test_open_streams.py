"""Open waits and streams are bounded, for all and for each caller."""

from contextlib import AsyncExitStack

import pytest

from taskfleet_api.access import ANYBODY, Caller, KeyScope, acting_as
from taskfleet_api.tasks.admission import OpenStreams
from taskfleet_core.errors import OverloadedError

ONE, OTHER = (Caller(f"key:{name}", frozenset({KeyScope.READ})) for name in ("one", "other"))


async def test_nobody_shuts_the_others_out_by_holding_all() -> None:
    streams = OpenStreams(4)
    async with AsyncExitStack() as held:
        with acting_as(ONE):
            for _ in range(2):
                await held.enter_async_context(streams.slot("events"))
            with pytest.raises(OverloadedError, match="You have 2"):
                await held.enter_async_context(streams.slot("wait"))
        with acting_as(OTHER):
            await held.enter_async_context(streams.slot("wait"))
    with acting_as(ONE):
        async with streams.slot("events"):
            assert streams.count == 1


async def test_without_authentication_there_is_one_bound_for_all() -> None:
    streams = OpenStreams(3)
    async with AsyncExitStack() as held:
        with acting_as(ANYBODY):
            for _ in range(3):
                await held.enter_async_context(streams.slot("events"))
            with pytest.raises(OverloadedError, match="3 waits and streams"):
                streams.check_room()
