"""Follows TaskQueuePolicies and keeps their status; once a second, and only what differs is written."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import structlog

from taskfleet_core.errors import TaskfleetError
from taskfleet_core.taskqueue import POLICY_KIND
from taskfleet_operator.fleet import FleetLimits
from taskfleet_operator.indexing import Manifest, get_key
from taskfleet_operator.kube import Kube
from taskfleet_operator.names import get_child_name
from taskfleet_operator.watching import Watcher

__all__ = ["keep_policies", "read_policy", "seed_fleet"]

INTERVAL_SECONDS = 1.0
SEED_SECONDS = 60.0  # by then every TaskQueue has been told of

_log = structlog.get_logger()


def read_policy(fleet: FleetLimits, watcher: Watcher, item: Manifest) -> None:
    """A policy came, changed or went."""
    metadata = item["metadata"]
    present = watcher.get(metadata["namespace"], metadata["name"])
    if present is None:
        fleet.remove_policy(get_key(item))
    else:
        fleet.put_policy({**present, "kind": POLICY_KIND})


def seed_fleet(fleet: FleetLimits, queues: Iterable[Manifest], deployments: Watcher) -> None:
    """What all TaskQueues (their metadata) hold counts before the first of them may grow."""
    for metadata in queues:
        namespace, name = metadata["namespace"], metadata["name"]
        deployment = deployments.get(namespace, get_child_name(name)) or {}
        replicas = (deployment.get("spec") or {}).get("replicas", 0)
        fleet.seed(f"{namespace}/{name}", metadata.get("labels") or {}, replicas)


async def keep_policies(fleet: FleetLimits, kube: Kube, is_known: Callable[[str], bool]) -> None:
    """Write, for ever, each policy's status, and give waiting TaskQueues their turn. `is_known`: it still exists."""
    asyncio.get_running_loop().call_later(SEED_SECONDS, fleet.drop_seeds, is_known)
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        fleet.rotate()
        for raw, status in list(fleet.build_statuses(datetime.now(UTC))):
            try:
                await kube.replace_status(raw, status, POLICY_KIND)
            except TaskfleetError as error:  # a newer version is on its way, or the next second tries again
                _log.info("policy.status_not_written", policy=get_key(raw), error=str(error))
