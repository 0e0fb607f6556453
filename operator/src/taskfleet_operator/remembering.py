"""What the operator remembers of one TaskQueue between reconciles. Losing it costs precision, no safety."""

from dataclasses import dataclass, field

from taskfleet_core.scaling import Decision, Memory
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.compacting import share
from taskfleet_operator.counters import Counters
from taskfleet_operator.observed import Credentials, Observed, Plan
from taskfleet_operator.planning import Children, build_children

__all__ = ["Remembered"]


@dataclass
class Remembered:
    """`observed` and `decision` are those of the last reconcile that was carried out."""

    memory: Memory | None = None
    fenced: frozenset[str] = frozenset()  # uids of pods
    counters: Counters = field(default_factory=Counters)
    observed: Observed | None = None
    decision: Decision | None = None
    causes: dict[str, int] = field(default_factory=dict)  # of decisions -> how many
    _built: tuple[TaskQueue, Credentials, str, Children] | None = None

    def build_children(self, queue: TaskQueue, credentials: Credentials, injection: str) -> Children:
        """The same objects as last time as long as nothing that they are made of is another."""
        built = self._built
        if built is None or built[0] is not queue or built[1:3] != (credentials, injection):
            children = tuple(map(share, build_children(queue, credentials, injection)))
            built = self._built = (queue, credentials, injection, children)
        return built[3]

    def note_fences(self, plan: Plan) -> None:
        """Before the plan is carried out: a fence that was set has to be lifted again, also when a later step fails."""
        self.fenced |= set(plan.fence)

    def note(self, observed: Observed, plan: Plan) -> None:
        """The plan was carried out."""
        self.memory, self.decision, self.observed = plan.memory, plan.decision, observed
        if plan.decision is not None:
            self.causes[plan.decision.cause] = self.causes.get(plan.decision.cause, 0) + 1
        present = {pod.uid for pod in observed.pods}
        self.fenced = ((self.fenced - set(plan.unfence)) | set(plan.fence)) & present
