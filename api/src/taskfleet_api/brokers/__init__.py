"""Adapters to message brokers: publisher, topology and dead letters, for RabbitMQ and Redis/Valkey."""

from taskfleet_api.brokers.dead_letters import DeadLetter, DeadLetters, DeadReason
from taskfleet_api.brokers.messages import Message, build_message
from taskfleet_api.brokers.opening import open_dead_letters, open_publisher
from taskfleet_api.brokers.publishing import FailureKind, Publisher, PublishFailure
from taskfleet_core.topology import Degradation, QueueSpec, Topology, open_topology

__all__ = [
    "DeadLetter",
    "DeadLetters",
    "DeadReason",
    "Degradation",
    "FailureKind",
    "Message",
    "PublishFailure",
    "Publisher",
    "QueueSpec",
    "Topology",
    "build_message",
    "open_dead_letters",
    "open_publisher",
    "open_topology",
]
