"""Keeps the queues at the brokers as the TaskQueues say: new and changed ones at once, all of them each minute.

One lane per broker, off the way of reconciles: they say what they want and read how far it is. A broker that is down
is tried again with growing pauses, and at once when the poller sees it again.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice, zip_longest

import structlog

from taskfleet_core.amqp import LoginRefusedError
from taskfleet_core.backoff import decide_backoff_seconds
from taskfleet_core.ending import end_tasks
from taskfleet_core.errors import TaskfleetError, UnavailableError
from taskfleet_core.topology import Outcome, QueueSpec, Topology, open_topology
from taskfleet_core.waiting import wait_for_event
from taskfleet_operator.brokers import BrokerAccess

__all__ = ["QueueState", "TopologyKeeper"]

DRIFT_SECONDS = 60.0
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 1.0, 30.0
GATHER_SECONDS = 0.05  # TaskQueues that are applied together are declared together
MAX_BATCH = 200  # what comes meanwhile waits for as many at most
# A queue that the broker did not know is declared again once in this time, whatever the poller says meanwhile.
REPEAT_SECONDS = 3.0
# A broker tells figures of a new queue with a delay: about a second, five with RabbitMQ's default intervals.
NEW_SECONDS = 10.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class QueueState:
    """How far one queue is."""

    is_ready: bool = False  # it stands at the broker, as far as is known
    error: str | None = None
    is_refused: bool = False  # the error is one of credentials
    degradations: tuple[str, ...] = ()
    since: float = field(default=0.0, compare=False)  # monotonic time of the first declaration

    def is_new(self, now: float) -> bool:
        """Whether figures cannot be there yet: still to be declared, or declared a moment ago."""
        return now - self.since < NEW_SECONDS if self.is_ready else self.error is None


@dataclass
class _Lane:
    """One broker."""

    topology: Topology
    wanted: dict[str, QueueSpec] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    states: dict[str, QueueState] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)
    done_at: dict[str, float] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    checked_at: float = float("-inf")
    task: asyncio.Task[None] | None = None


class TopologyKeeper:
    """`on_change` hears of each queue whose state is another than before."""

    def __init__(self, on_change: Callable[[BrokerAccess, str], None], *, drift_seconds: float = DRIFT_SECONDS) -> None:
        self._on_change = on_change
        self._drift_seconds = drift_seconds
        self._lanes: dict[BrokerAccess, _Lane] = {}

    def get(self, broker: BrokerAccess, queue: str) -> QueueState:
        """The state of a queue."""
        lane = self._lanes.get(broker)
        return lane.states.get(queue, QueueState()) if lane else QueueState()

    def get_all(self, broker: BrokerAccess, queues: Iterable[str]) -> QueueState:
        """The state of several queues as if they were one: as far as the last of them."""
        states = [self.get(broker, queue) for queue in queues]
        if len(states) == 1:
            return states[0]
        return QueueState(
            is_ready=all(state.is_ready for state in states),
            error=next((state.error for state in states if state.error), None),
            is_refused=any(state.is_refused for state in states),
            degradations=tuple(dict.fromkeys(text for state in states for text in state.degradations)),
            since=max(state.since for state in states),
        )

    def want(self, broker: BrokerAccess, spec: QueueSpec, group: str = "") -> None:
        """Have a queue at a broker; nothing happens when it was wanted like this before. Groups (namespaces) of queues
        take turns."""
        lane = self._lanes.get(broker)
        if lane is None:
            lane = self._lanes[broker] = _Lane(open_topology(broker.url, broker.management_url))
            lane.task = asyncio.create_task(self._follow(broker, lane), name="topology")
        if lane.wanted.get(spec.name) != spec:
            lane.wanted[spec.name] = spec
            lane.groups[spec.name] = group
            lane.due.add(spec.name)
            self._wake(lane)

    def drop(self, broker: BrokerAccess, queue: str) -> None:
        """Nobody wants the queue any more. At the broker it stays: its messages are the user's."""
        lane = self._lanes.get(broker)
        if lane is None:
            return
        for table in (lane.wanted, lane.groups, lane.states, lane.done_at):
            table.pop(queue, None)
        lane.due.discard(queue)
        if not lane.wanted:
            lane.woken.set()

    def report_missing(self, broker: BrokerAccess, queues: set[str]) -> None:
        """The poller does not find these queues at the broker."""
        lane = self._lanes.get(broker)
        if lane is None:
            return
        latest = time.monotonic() - REPEAT_SECONDS
        late = {queue for queue in queues if queue in lane.wanted and lane.done_at.get(queue, 0.0) < latest}
        if late - lane.due:
            lane.due |= late
            self._wake(lane)

    def report_return(self, broker: BrokerAccess) -> None:
        """The broker answers again: it may have lost everything."""
        lane = self._lanes.get(broker)
        if lane is not None:
            lane.due.update(lane.wanted)
            lane.failures = 0
            lane.woken.set()

    async def close(self) -> None:
        """Stop, and close connections."""
        lanes, self._lanes = list(self._lanes.values()), {}
        await end_tasks(lane.task for lane in lanes)

    @staticmethod
    def _wake(lane: _Lane) -> None:
        if not lane.failures:  # a broker that is down is not tried more often because there is more to do
            lane.woken.set()

    # -- one broker ------------------------------------------------------------------------------------------------

    async def _follow(self, broker: BrokerAccess, lane: _Lane) -> None:
        try:
            while lane.wanted:
                await self._wait(lane)
                lane.woken.clear()
                await asyncio.sleep(GATHER_SECONDS)
                await self._work(broker, lane)
        finally:
            if self._lanes.get(broker) is lane:
                del self._lanes[broker]
            await lane.topology.close()

    async def _wait(self, lane: _Lane) -> None:
        """Until there is something to do, or a look is due. After a failure the pause comes first."""
        now = time.monotonic()
        seconds = max(0.0, lane.checked_at + self._drift_seconds - now)
        if lane.failures:
            seconds = decide_backoff_seconds(lane.failures, FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, random.random())
        elif lane.due:
            seconds = 0.0
        await wait_for_event(lane.woken, seconds)

    async def _work(self, broker: BrokerAccess, lane: _Lane) -> None:
        now = time.monotonic()
        if lane.failures or now - lane.checked_at >= self._drift_seconds:
            lane.due.update(lane.wanted)
        if lane.due >= lane.wanted.keys():
            lane.checked_at = now
        due = _take_turns(lane)
        if not due:
            return
        lane.due.difference_update(spec.name for spec in due)
        try:
            outcomes = await lane.topology.ensure_queues(
                due, lambda spec, outcome: self._settle(broker, lane, spec, outcome)
            )
        except Exception as error:  # what nobody thought of is an error of this broker too, and tried again
            if not isinstance(error, TaskfleetError):
                _log.exception("topology.failed")
            self._fail(broker, lane, error)
        else:
            # What failed because the broker went away meanwhile is tried again soon; a conflict waits a while.
            again = {name for name, outcome in outcomes.items() if isinstance(outcome, UnavailableError)}
            lane.due |= again & lane.wanted.keys()
            lane.failures = lane.failures + 1 if again else 0

    def _settle(self, broker: BrokerAccess, lane: _Lane, spec: QueueSpec, outcome: Outcome) -> None:
        if lane.wanted.get(spec.name) != spec:
            return  # changed or dropped meanwhile: its turn comes again
        lane.done_at[spec.name] = time.monotonic()
        before = lane.states.get(spec.name, QueueState())
        if isinstance(outcome, TaskfleetError):
            state = replace(
                before, error=str(outcome), is_refused=isinstance(outcome, LoginRefusedError), degradations=()
            )
            if not isinstance(outcome, LoginRefusedError):
                _log.warning("topology.queue_failed", queue=spec.name, error=str(outcome))
        else:
            since = before.since if before.is_ready else time.monotonic()
            state = QueueState(True, degradations=tuple(item.detail for item in outcome), since=since)
        self._put(broker, lane, spec.name, state)

    def _fail(self, broker: BrokerAccess, lane: _Lane, error: Exception) -> None:
        """The broker as a whole does not do it."""
        lane.failures += 1
        text = str(error) or type(error).__name__
        refused = isinstance(error, LoginRefusedError)
        if lane.failures == 1 or lane.failures % 10 == 0:
            _log.warning("topology.broker_failed", error=text, queues=len(lane.wanted), failures=lane.failures)
        for name in lane.wanted:
            state = lane.states.get(name, QueueState())
            self._put(broker, lane, name, replace(state, error=text, is_refused=refused))

    def _put(self, broker: BrokerAccess, lane: _Lane, name: str, state: QueueState) -> None:
        if lane.states.get(name) != state:
            lane.states[name] = state
            self._on_change(broker, name)


def _take_turns(lane: _Lane) -> list[QueueSpec]:
    """The next queues to look at: all that stood before, which one look finds as they should be; of new ones a number,
    one of each group, then the next of each, so that none waits for all of another's."""
    groups: defaultdict[str, list[QueueSpec]] = defaultdict(list)
    stood: list[QueueSpec] = []
    for name, spec in lane.wanted.items():
        if name in lane.due:
            known = lane.states.get(name)
            (stood if known is not None and known.is_ready else groups[lane.groups[name]]).append(spec)
    turns = (spec for turn in zip_longest(*groups.values()) for spec in turn if spec is not None)
    return [*stood, *islice(turns, MAX_BATCH)]
