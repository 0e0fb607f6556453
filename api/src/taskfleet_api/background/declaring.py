"""QueueDeclarer: makes each registered queue at the broker as its registration says, and again when it went missing."""

from collections.abc import Mapping
from typing import Any

import structlog

from taskfleet_api.background.directory import KnownQueue, QueueDirectory
from taskfleet_api.brokers import Degradation, QueueSpec, Topology
from taskfleet_core.errors import ConflictError, TaskfleetError, UnavailableError
from taskfleet_core.topology import Outcome
from taskfleet_core.topology.specs import CONSUMER_TIMEOUT_MARGIN_SECONDS

__all__ = ["QueueDeclarer", "build_queue_spec"]

log = structlog.get_logger()

INTERVAL_SECONDS = 0.5
REDECLARE_STEPS = 600  # every five minutes: a policy that somebody removed comes back


def build_queue_spec(queue: KnownQueue) -> QueueSpec:
    """The delivery rules in a registration; what it leaves out has the broker package's default."""
    limits: Mapping[str, Any] = queue.registration.get("limits") or {}
    wanted: dict[str, Any] = {"name": queue.name}
    for source, target in (
        ("deliveryLimit", "delivery_limit"),
        ("deadLetter", "dead_letter"),
        ("maxLength", "max_length"),
        ("messageTTLSeconds", "message_ttl_seconds"),
    ):
        if source in limits:
            wanted[target] = limits[source]
    if limits.get("maxTaskSeconds"):
        wanted["consumer_timeout_seconds"] = limits["maxTaskSeconds"] + CONSUMER_TIMEOUT_MARGIN_SECONDS
    return QueueSpec(**wanted)


class QueueDeclarer:
    """Declares what is new, changed, asked for or long ago; one queue's conflict does not hold up the others."""

    def __init__(self, topology: Topology, directory: QueueDirectory) -> None:
        self._topology = topology
        self._directory = directory
        self._declared: dict[str, QueueSpec] = {}
        self._degradations: dict[str, list[Degradation]] = {}
        self._conflicts: dict[str, str] = {}
        self._steps = 0

    def ask(self, queue: str) -> None:
        """The broker does not know the queue: declare it again soon."""
        self._declared.pop(queue, None)

    def degradations(self, queue: str) -> list[Degradation]:
        """What the broker cannot do of what this queue asks for."""
        return self._degradations.get(queue, [])

    def is_declared(self, queue: str) -> bool:
        """Whether the queue stands at the broker as its registration says."""
        return queue in self._declared and queue not in self._conflicts

    async def step(self) -> float:
        """Declare what needs it, all of it together."""
        self._steps += 1
        if self._steps % REDECLARE_STEPS == 0:
            self._declared.clear()
        known = (self._directory.get(name) for name in self._directory.names())
        specs = [build_queue_spec(queue) for queue in known if queue is not None and not queue.scale_only]
        due = [spec for spec in specs if self._declared.get(spec.name) != spec]
        if due:
            outcomes = await self._topology.ensure_queues(due, self._settle)
            failures = [outcome for outcome in outcomes.values() if isinstance(outcome, UnavailableError)]
            if failures:
                raise failures[0]  # what the broker did not answer for stays due
        return INTERVAL_SECONDS

    def _settle(self, spec: QueueSpec, outcome: Outcome) -> None:
        name = spec.name
        if isinstance(outcome, ConflictError):
            if self._conflicts.get(name) != str(outcome):
                log.error("queue_conflict", queue=name, detail=str(outcome))
            self._conflicts[name] = str(outcome)
        elif isinstance(outcome, TaskfleetError):
            return
        else:
            self._conflicts.pop(name, None)
            if outcome != self._degradations.get(name, []):
                for item in outcome:
                    log.warning("queue_degraded", queue=name, feature=item.feature, detail=item.detail)
            self._degradations[name] = outcome
        self._declared[name] = spec
