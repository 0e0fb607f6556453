"""One look at all queues: their figures, and the last decision about the busiest of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskfleet.async_client import AsyncClient
from taskfleet.errors import NotFoundError, TaskfleetError
from taskfleet.models import Queue

__all__ = ["Overview", "QueueLine", "fetch_overview"]

MOST_REQUESTS = 8  # decisions asked for at a time


@dataclass(frozen=True, slots=True)
class QueueLine:
    """One queue; `scaling` is the API's answer about its last decision, None where it could not be read."""

    queue: Queue
    scaling: dict[str, Any] | None = None

    @property
    def decision(self) -> dict[str, Any] | None:
        """The last decision about its workers; None before the first one."""
        return self.scaling["decision"] if self.scaling else None

    @property
    def wanted(self) -> int | None:
        """How many workers were decided on; None where that is not known."""
        return self.decision["replicas"] if self.decision else None

    @property
    def wait_seconds(self) -> float | None:
        """How long the last waiting task will wait, as the rule expects; None where that is not known."""
        if self.queue.ready == 0:
            return 0.0
        wait: float | None = self.decision["terms"].get("wait_seconds") if self.decision else None
        return wait


@dataclass(frozen=True, slots=True)
class Overview:
    """All queues, of which `lines` are those that were asked for, busiest first."""

    lines: Sequence[QueueLine]
    queues: Sequence[Queue]

    def build_document(self) -> list[dict[str, Any]]:
        """The lines as JSON for scripts; null is unknown."""
        return [
            {
                **line.queue.model_dump(mode="json", exclude_unset=True),
                "wanted": line.wanted,
                "wait_seconds": line.wait_seconds,
                "cause": line.decision["cause"] if line.decision else None,
                "reason": line.decision["reason"] if line.decision else None,
            }
            for line in self.lines
        ]


async def fetch_overview(client: AsyncClient, names: Sequence[str], limit: int | None) -> Overview:
    """The queues with these names, or all; of them the `limit` busiest with their decisions.

    Raises NotFoundError for a name that is no queue, and what else the API answers.
    """
    queues = await client.queues()
    if missing := set(names) - {queue.name for queue in queues}:
        raise NotFoundError(f"There is no queue {sorted(missing)[0]!r}.")
    chosen = sorted((queue for queue in queues if not names or queue.name in names), key=_rank)[:limit]
    gate = asyncio.Semaphore(MOST_REQUESTS)

    async def complete(queue: Queue) -> QueueLine:
        async with gate:
            try:
                return QueueLine(queue, await client.queue_scaling(queue.name))
            except TaskfleetError:  # its figures are worth showing all the same
                return QueueLine(queue)

    return Overview(await asyncio.gather(*map(complete, chosen)), queues)


def _rank(queue: Queue) -> tuple[bool, int, str]:
    """What works or waits first; what is not known may be trouble, so it comes with them."""
    figures = (queue.ready, queue.unacknowledged, queue.workers)
    is_quiet = all(figure == 0 for figure in figures)
    return (is_quiet, -((queue.ready or 0) + (queue.unacknowledged or 0)), queue.name)
