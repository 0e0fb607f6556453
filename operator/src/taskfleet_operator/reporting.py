"""Leaves the last decision about each queue in the store, where the API reads it. Best effort: nothing waits for it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator

import structlog

from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.scaling import Decision, build_report
from taskfleet_operator.planning import is_acting
from taskfleet_operator.remembering import Remembered
from taskfleet_operator.store import Store

__all__ = ["iterate_decisions", "report_decisions"]

ROUND_SECONDS = 2.0  # a busy queue decides each second: half of that is enough for a reader

_log = structlog.get_logger()


async def report_decisions(store: Store, get_decisions: Callable[[], Iterable[tuple[str, Decision, bool]]]) -> None:
    """Repeat for ever: write the decisions that are new since the last round, as (queue, decision, acting)."""
    told: dict[str, tuple[Decision, bool]] = {}
    while True:
        present = {queue: (decision, acting) for queue, decision, acting in get_decisions()}
        # By identity: a quiet queue keeps its decision, and a thousand comparisons of their fields cost too much.
        news = {
            queue: (decision, acting)
            for queue, (decision, acting) in present.items()
            if queue not in told or told[queue][0] is not decision or told[queue][1] != acting
        }
        if news:
            now = time.time()
            reports = {
                queue: build_report(decision, at=now, acting=acting) for queue, (decision, acting) in news.items()
            }
            try:
                await store.write_decisions(reports)
                told = present
            except StoreUnavailableError as error:
                _log.warning("decisions.not_written", error=str(error))
        await asyncio.sleep(ROUND_SECONDS)


def iterate_decisions(remembered: Iterable[Remembered]) -> Iterator[tuple[str, Decision, bool]]:
    """The last decision about the workers of each queue, and whether it was acted on."""
    for each in remembered:
        observed, decision = each.observed, each.decision
        if observed is not None and decision is not None and observed.conflict_with is None:
            for queue in observed.queue.queue_weights:
                yield queue, decision, is_acting(observed)
