"""Leader election by a Lease. A leader that cannot renew in time stops all writes before the Lease ends.

The holder renews every `renew_seconds`; others take over when the Lease has not changed for `duration_seconds` of
their own clock, so that clocks need not agree. Loss is final: the process exits and starts anew as a standby.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from taskfleet_core.errors import ConflictError, NotFoundError, TaskfleetError

__all__ = ["Lease", "LeaseClient"]

_log = structlog.get_logger()


class LeaseClient(Protocol):
    """What the loop needs of Kubernetes."""

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]: ...
    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]: ...
    async def replace(self, manifest: dict[str, Any]) -> dict[str, Any]: ...


class Lease:
    """One candidate. `wait_acquired()`, then `wait_lost()`; `is_leader` may be asked before each write."""

    def __init__(
        self,
        client: LeaseClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        duration_seconds: float = 15.0,
        renew_seconds: float = 3.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._namespace, self._name, self._identity = namespace, name, identity
        self._duration_seconds, self._renew_seconds = duration_seconds, renew_seconds
        # Stop well before others may take over: a write under way still has time to end.
        self._deadline_seconds = duration_seconds * 2 / 3
        self._monotonic = monotonic
        self._held_until = 0.0
        self._seen: tuple[str | None, float] = (None, 0.0)
        self.uid: str | None = None  # of the Lease: the same for all replicas, another for each installation
        self.problem: str | None = "the Lease has not been read yet"  # what kept the last try from an answer

    @property
    def is_leader(self) -> bool:
        """Whether writes are allowed now."""
        return self._monotonic() < self._held_until

    async def wait_acquired(self) -> None:
        """Try until this candidate leads."""
        while not await self._try(self._acquire):  # noqa: ASYNC110 # another process changes what is waited for
            await asyncio.sleep(self._renew_seconds)
        _log.info("lease.acquired", identity=self._identity)

    async def wait_lost(self) -> None:
        """Renew; returns when leadership could not be kept. Nothing may be written afterwards."""
        while self.is_leader:
            await asyncio.sleep(min(self._renew_seconds, max(0.05, self._held_until - self._monotonic())))
            remaining = self._held_until - self._monotonic()
            if remaining <= 0:
                break
            try:
                async with asyncio.timeout(remaining):
                    await self._try(self._renew)
            except TimeoutError:
                break
        self._held_until = 0.0
        _log.error("lease.lost", identity=self._identity)

    async def release(self) -> None:
        """Hand over at once on a clean stop; best effort."""
        if not self.is_leader:
            return
        self._held_until = 0.0
        try:
            async with asyncio.timeout(2):
                lease = await self._client.get("Lease", self._namespace, self._name)
                if lease["spec"].get("holderIdentity") == self._identity:
                    lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._client.replace(lease)
        except (TaskfleetError, TimeoutError) as error:
            _log.warning("lease.release_failed", error=str(error))

    async def _try(self, step: Callable[[], Any]) -> bool:
        began = self._monotonic()
        try:
            async with asyncio.timeout(self._deadline_seconds):
                held = bool(await step())
        except (TaskfleetError, TimeoutError) as error:
            self.problem = str(error) or type(error).__name__
            _log.warning("lease.not_reached", error=self.problem)
            return False
        self.problem = None
        if held:
            # Counted from before the request: when it was written is not known, when it was asked for is.
            self._held_until = began + self._deadline_seconds
        return held

    async def _acquire(self) -> bool:
        try:
            lease = await self._client.get("Lease", self._namespace, self._name)
        except NotFoundError:
            return await self._write(self._client.create, self._build({}, 0))
        spec = lease.get("spec") or {}
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, self._monotonic())
        holder = spec.get("holderIdentity")
        age = self._monotonic() - self._seen[1]
        if holder and holder != self._identity and age < float(spec.get("leaseDurationSeconds") or 0):
            return False
        return await self._write(self._client.replace, self._build(lease, spec.get("leaseTransitions", 0) + 1))

    async def _renew(self) -> bool:
        lease = await self._client.get("Lease", self._namespace, self._name)
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") != self._identity:
            self._held_until = 0.0
            return False
        return await self._write(self._client.replace, self._build(lease, spec.get("leaseTransitions", 0)))

    async def _write(self, write: Callable[[dict[str, Any]], Any], manifest: dict[str, Any]) -> bool:
        try:
            answer = await write(manifest)
        except ConflictError:
            return False
        self.uid = answer["metadata"].get("uid")
        return True

    def _build(self, lease: dict[str, Any], transitions: int) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = lease.get("spec") or {}
        renewed = spec.get("holderIdentity") == self._identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": lease.get("metadata") or {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._duration_seconds)),
                "acquireTime": spec.get("acquireTime") if renewed else now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }
