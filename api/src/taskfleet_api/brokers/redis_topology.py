"""Queues on Redis/Valkey: lists that need no declaration. Says which rules a list cannot have."""

from taskfleet_api.brokers.queues import Degradation, QueueSpec

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

    async def delete_queue(self, name: str) -> None:
        """Nothing to do: an empty list does not exist."""

    async def close(self) -> None:
        """Nothing to close."""
