"""Queues at the broker: what a queue should be, and the adapters that make it so. Imports neither Celery nor kombu."""

from taskfleet_core.topology.confinement import QueueUser
from taskfleet_core.topology.model import Degradation, Outcome, QueueSpec, Topology
from taskfleet_core.topology.opening import open_topology
from taskfleet_core.topology.specs import build_queue_specs
from taskfleet_core.topology.users import QueueUsers

__all__ = [
    "Degradation",
    "Outcome",
    "QueueSpec",
    "QueueUser",
    "QueueUsers",
    "Topology",
    "build_queue_specs",
    "open_topology",
]
