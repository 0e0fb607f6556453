"""One look at all queues: their figures with the last decision about their workers, busiest first. One request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taskfleet.async_client import AsyncClient
from taskfleet.errors import NotFoundError
from taskfleet.models import Queue

__all__ = ["Overview", "fetch_overview", "get_wait_seconds", "get_wanted"]


def get_wanted(queue: Queue) -> int | None:
    """How many workers were decided on; None where that is not known."""
    return queue.decision["replicas"] if queue.decision else None


def get_wait_seconds(queue: Queue) -> float | None:
    """How long the last waiting task will wait, as the rule expects; None where that is not known."""
    if queue.ready == 0:
        return 0.0
    wait: float | None = queue.decision["terms"].get("wait_seconds") if queue.decision else None
    return wait


@dataclass(frozen=True, slots=True)
class Overview:
    """All queues, of which `shown` are those that were asked for, busiest first."""

    shown: Sequence[Queue]
    queues: Sequence[Queue]

    def build_document(self) -> list[dict[str, Any]]:
        """What is shown as JSON for scripts; null is unknown."""
        return [
            {
                **queue.model_dump(mode="json", exclude_unset=True),
                "wanted": get_wanted(queue),
                "wait_seconds": get_wait_seconds(queue),
            }
            for queue in self.shown
        ]


async def fetch_overview(client: AsyncClient, names: Sequence[str], limit: int | None) -> Overview:
    """The queues with these names, or all; of them the `limit` busiest.

    Raises NotFoundError for a name that is no queue, and what else the API answers.
    """
    queues = await client.queues()
    if missing := set(names) - {queue.name for queue in queues}:
        raise NotFoundError(f"There is no queue {sorted(missing)[0]!r}.")
    return Overview(sorted((queue for queue in queues if not names or queue.name in names), key=_rank)[:limit], queues)


def _rank(queue: Queue) -> tuple[bool, int, str]:
    """What works or waits first; what is not known may be trouble, so it comes with them."""
    figures = (queue.ready, queue.unacknowledged, queue.workers)
    is_quiet = all(figure == 0 for figure in figures)
    return (is_quiet, -((queue.ready or 0) + (queue.unacknowledged or 0)), queue.name)
