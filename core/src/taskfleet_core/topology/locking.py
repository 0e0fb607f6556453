"""One writer at a time, among all operators and API replicas that share a RabbitMQ: whoever has the exclusive queue."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

from pamqp import commands

from taskfleet_core.amqp import AmqpSession, ChannelClosedError
from taskfleet_core.errors import BrokerUnavailableError

__all__ = ["LOCK_QUEUE", "hold_lock"]

LOCK_QUEUE = "taskfleet.policies"
RESOURCE_LOCKED, ACCESS_REFUSED = 405, 403
PAUSE_SECONDS = 0.2


@contextlib.asynccontextmanager
async def hold_lock(session: AmqpSession, timeout_seconds: float = 60.0) -> AsyncIterator[None]:
    """Wait for the queue, which only one connection can have, and hold it. It goes away with the connection, so that
    nobody who dies leaves it locked.

    Raises BrokerUnavailableError when another holds it for too long.
    """
    held = await _acquire(session, asyncio.get_running_loop().time() + timeout_seconds)
    try:
        yield
    finally:
        if held and not session.lost.done():
            with contextlib.suppress(ChannelClosedError, BrokerUnavailableError):
                await session.call(commands.Queue.Delete(queue=LOCK_QUEUE))


async def _acquire(session: AmqpSession, deadline: float) -> bool:
    """Whether it is held: a user without the right to declare this queue goes on without, and what two writers lose
    of each other's the next look for drift brings back."""
    while True:
        try:
            await session.call(commands.Queue.Declare(queue=LOCK_QUEUE, exclusive=True))
        except ChannelClosedError as error:
            if error.code == ACCESS_REFUSED:
                return False
            if error.code != RESOURCE_LOCKED:
                raise BrokerUnavailableError(f"while locking the shared policies: {error}") from error
        else:
            return True
        if asyncio.get_running_loop().time() > deadline:
            raise BrokerUnavailableError("another operator or API has been changing the shared policies for too long")
        await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.5, 1.5))
