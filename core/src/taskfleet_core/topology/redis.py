"""Queues on Redis/Valkey: lists that need no declaration. Says which rules a list cannot have."""

from collections.abc import Sequence

from taskfleet_core.topology.model import Degradation, Outcome, QueueSpec, Tell, ignore

__all__ = ["RedisTopology"]


class RedisTopology:
    """See `Topology`. Delivery limit and dead-lettering are kept by workers and API; the rest is not to be had."""

    async def ensure_queue(self, spec: QueueSpec) -> list[Degradation]:
        """Nothing to do; what was asked for and cannot be is returned."""
        asked = {"max_length": spec.max_length, "message_ttl": spec.message_ttl_seconds}
        return [
            Degradation(spec.name, feature, f"a Redis broker has no {feature} per queue")
            for feature, value in asked.items()
            if value is not None
        ]

    async def ensure_queues(self, specs: Sequence[QueueSpec], tell: Tell = ignore) -> dict[str, Outcome]:
        """See `Topology`."""
        outcomes: dict[str, Outcome] = {}
        for spec in specs:
            outcomes[spec.name] = await self.ensure_queue(spec)
            tell(spec, outcomes[spec.name])
        return outcomes

    async def delete_queue(self, name: str) -> None:
        """Nothing to do: an empty list does not exist."""

    async def close(self) -> None:
        """Nothing to close."""
