"""Tests on a real cluster: one installation for all, in an order that ends with its removal; counted, never timed."""

import os
from pathlib import Path

import pytest
from tests.support.cluster import cluster as cluster  # the fixture

HERE = Path(__file__).parent
# What disturbs others comes late: faults of the whole installation, an upgrade of it, and at the end its removal.
ORDER = [
    "test_examples",
    "test_quickstart",
    "test_scaling",
    "test_rollout",
    "test_monitoring",
    "test_upgrade",
    "test_tls",
    "test_network_policies",
    "test_faults",
    "test_uninstall",
]
TEST_SECONDS = 300
# Installations of their own, a wait for the kubelet, an agent to compile: minutes that `make test` does not have.
ASKED_FOR = {"test_tls.py": "CLUSTER_TLS", "test_network_policies.py": "CLUSTER_NETWORK_POLICIES"}
collect_ignore = [name for name, variable in ASKED_FOR.items() if not os.environ.get(variable)]


@pytest.hookimpl(tryfirst=True)  # before tests are selected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order above, in one process; the time limit counts the test alone: the first one starts a cluster."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.timeout(TEST_SECONDS, func_only=True))
        item.add_marker(pytest.mark.alone)
    ours.sort(key=lambda item: ORDER.index(item.path.stem))
    places = [index for index, item in enumerate(items) if HERE in item.path.parents]
    for index, item in zip(places, ours, strict=True):
        items[index] = item
