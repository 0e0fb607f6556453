"""DeadLetterRecorder: a message that the broker gave up becomes the final state of its task, with the cause."""

from datetime import UTC, datetime

import structlog

from taskfleet_api.background.sweeping import announce_all
from taskfleet_api.background.tallies import Tallies
from taskfleet_api.brokers import DeadLetter, DeadReason
from taskfleet_api.live import LiveStore
from taskfleet_api.records import Records
from taskfleet_api.telemetry import counter
from taskfleet_core.errors import StoreUnavailableError
from taskfleet_core.events import TaskErrorInfo, TaskEvent
from taskfleet_core.states import TaskState, position
from taskfleet_core.wire import SCHEMA_VERSION

__all__ = ["DeadLetterRecorder", "build_dead_event"]

log = structlog.get_logger()

STATE_OF_REASON = {
    DeadReason.DELIVERY_LIMIT: TaskState.DEAD,
    DeadReason.EXPIRED: TaskState.EXPIRED,
    DeadReason.REJECTED: TaskState.FAILED,
    DeadReason.MAXLEN: TaskState.DEAD,
}
MESSAGE_OF_REASON = {
    DeadReason.DELIVERY_LIMIT: "Workers took the task too often without finishing it: delivery limit reached.",
    DeadReason.EXPIRED: "No worker took the task before it expired.",
    DeadReason.REJECTED: "The worker rejected the message: task unknown or message unreadable.",
    DeadReason.MAXLEN: "The queue was full: the broker dropped the message.",
}

NOBODY_SAID = (
    " No worker was left to say how: they were lost whole, as in a container without memory or on a lost node."
)


def build_dead_event(letter: DeadLetter, at: datetime, loss: str = "") -> TaskEvent:
    """The final event of the attempt that died; `loss` says how its last process ended."""
    state = STATE_OF_REASON[letter.reason]
    event = TaskEvent(
        schema=SCHEMA_VERSION,
        kind="state",
        id=letter.task_id,
        queue=letter.queue,
        task=letter.task,
        state=state.value,
        attempt=letter.attempt,
        retries=int(letter.headers.get("retries") or 0),
        position=position(letter.attempt, 0, state),
        at=at.timestamp(),
    )
    if state is not TaskState.EXPIRED:
        message = MESSAGE_OF_REASON[letter.reason]
        if letter.reason is DeadReason.DELIVERY_LIMIT:
            message += f" The last time: {loss}" if loss else NOBODY_SAID
        event["error"] = TaskErrorInfo(type=f"dead_letter.{letter.reason}", message=message)
    return event


class DeadLetterRecorder:
    """Handles one dead letter at a time; returning means committed, raising means that it comes again."""

    def __init__(self, records: Records, live: LiveStore, tallies: Tallies) -> None:
        self._records = records
        self._tallies = tallies
        self._live = live

    async def handle(self, letter: DeadLetter) -> None:
        """Record the death and tell waiting readers."""
        event = build_dead_event(letter, datetime.now(UTC), await self._fetch_loss(letter))
        result = await self._records.apply_events([event])
        log.warning(
            "dead_letter", task_id=letter.task_id, queue=letter.queue, reason=letter.reason.value, state=event["state"]
        )
        if result.finished:
            counter("taskfleet_tasks_finished_total").labels(letter.queue, event["state"]).inc()
            self._tallies.note_end(letter.queue, event["state"])
        await announce_all(self._live, [event])

    async def _fetch_loss(self, letter: DeadLetter) -> str:
        if letter.reason is not DeadReason.DELIVERY_LIMIT:
            return ""
        try:
            return await self._live.fetch_loss(letter.task_id, letter.attempt)
        except StoreUnavailableError:
            return ""  # a death is recorded without its cause rather than not at all
