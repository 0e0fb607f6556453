"""Learns how far the metrics of a broker lag behind, and which queues are worth a passive declare. Pure.

A RabbitMQ with its default intervals shows a message after four seconds and more; one second intervals after 0.3.
No interface tells the intervals. So what declares saw is compared with when the metrics show it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from taskfleet_core.statistics.rabbitmq_declares import MAX_DECLARES_PER_SECOND, pick_in_turn

__all__ = ["Freshness"]

LAG_SECONDS = 2.5  # more is a broker with default intervals; what is looked at once a second cannot tell less
SLOW_KEPT_SECONDS = 600.0
FRESH_SAMPLES = 3
TRIAL_PER_SECOND = 20  # declares a second until it is known whether they are needed


@dataclass
class Freshness:
    """What is known of one broker. Times are monotonic seconds."""

    slow_until: float = float("-inf")
    prompt: int = 0  # changes that the metrics showed in time
    _open: dict[str, tuple[float, int]] = field(default_factory=dict)  # queue -> since when, and what metrics said then
    _turn: int = 0
    _chosen_at: float | None = None

    def is_slow(self, at: float) -> bool:
        """Whether the metrics are known to lag."""
        return at < self.slow_until

    def choose(self, queues: Sequence[str], hinted: Collection[str], at: float) -> list[str]:
        """The queues to declare passively now: hinted ones, those that the metrics are known to show wrongly, and as
        many others as it takes on this broker."""
        first = [queue for queue in queues if queue in hinted or queue in self._open][:MAX_DECLARES_PER_SECOND]
        elapsed = 1.0 if self._chosen_at is None else min(1.0, at - self._chosen_at)
        budget = min(int(self._get_rate(at) * elapsed), MAX_DECLARES_PER_SECOND - len(first))
        if budget <= 0:
            return first
        self._chosen_at = at
        chosen = set(first)
        others = pick_in_turn([queue for queue in queues if queue not in chosen], self._turn, budget)
        self._turn += len(others)
        return [*first, *others]

    def learn(self, shown: Mapping[str, int], declared: Mapping[str, int], at: float) -> None:
        """Fold in one look: ready messages as the metrics show them, and as declares tell."""
        for queue, (since, before) in list(self._open.items()):
            if queue not in shown:
                del self._open[queue]
            elif shown[queue] != before:
                del self._open[queue]
                if at - since <= LAG_SECONDS:
                    self.prompt += 1
            if at - since > LAG_SECONDS:
                self.slow_until = at + SLOW_KEPT_SECONDS
                self.prompt = 0
        for queue, ready in declared.items():
            if queue in self._open and ready == shown.get(queue):
                del self._open[queue]  # a message that came and went before the metrics could show it proves nothing
            elif queue in shown and shown[queue] != ready:
                self._open.setdefault(queue, (at, shown[queue]))

    def _get_rate(self, at: float) -> int:
        if self.is_slow(at):
            return MAX_DECLARES_PER_SECOND
        return 0 if self.prompt >= FRESH_SAMPLES else TRIAL_PER_SECOND
