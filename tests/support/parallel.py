"""How the tests share several processes: tests of one stack stay in one process, kills run alone, servers end early.

`pytest -n 3 -m "not alone"` runs what bears company, `pytest -m alone` the rest. Without -n nothing changes but that
servers end when the tests of the next group do not use them.
"""

import re
from typing import Any

import pytest

__all__ = ["group_of"]

# (what the node id looks like, group), first match; the longest groups first, so that none is left over at the end.
GROUPS = (
    (r"acceptance/.*\[rabbitmq3\.10-mariadb\]", "rabbitmq3.10-mariadb"),
    (r"acceptance/.*\[valkey-sqlite\]", "valkey-sqlite"),
    (r"test_schemathesis", "schemathesis"),
    (r"integration/worker/test_(out|red)", "worker"),
    (r"acceptance/test_docs", "docs"),
    (r"test_001_in_full", "001"),
    (r"upgrades/", "upgrades"),
    (r"acceptance/references", "references"),
    (r"(acceptance|poison)/", "acceptance"),
    (r"console/", "console"),
    (r"controlplane/|chart/test_api_server", "controlplane"),
    (r"integration/worker/", "worker-2"),
    (r"integration/(brokers|statistics|operator)/", "brokers"),
    (r"integration/background/", "background"),
    (r"integration/cli/.*(::.*)", ""),  # each starts servers of its own
    (r"integration/(records|references)/", "databases"),
    (r"integration/http/", "http"),
    (r"(chart|dashboards)/", "chart"),
    (r"integration/live/", "live"),
    (r"unit/([a-z]+/test_\w+)", ""),
    (r"", "rest"),
)
# A busy neighbour would break what these promise, or the other way round.
ALONE = re.compile(r"tests/(faults|cluster)/")
# They run etcd, kube-apiserver or helm, which are built once.
KUBERNETES = re.compile(r"tests/(controlplane|chart|dashboards)/|security/test_manifests")
STACKS = ("fleet", "browser", "stack", "site", "other_site", "served", "control_plane")
SERVERS = (*STACKS, "rabbitmq43", "rabbitmq310", "valkey", "postgresql", "mariadb")
_running: dict[str, tuple[pytest.FixtureDef[Any], Any]] = {}


def group_of(nodeid: str) -> tuple[int, str]:
    """Place in the order and name of the group whose tests run in one process, one after the other."""
    for place, (pattern, name) in enumerate(GROUPS):
        if found := re.search(pattern, nodeid):
            return place, name or found[1]
    raise AssertionError(nodeid)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "alone: kills or measures; run by itself, after the tests that bear company")
    config.addinivalue_line("markers", "kubernetes: needs the built binaries of Kubernetes")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs alone, and bring the groups together."""
    for item in items:
        if ALONE.search(item.nodeid):
            item.add_marker("alone")
        if KUBERNETES.search(item.nodeid):
            item.add_marker("kubernetes")
    items.sort(key=lambda item: group_of(item.nodeid)[0])


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: Any) -> None:
    """Note the servers that this process runs."""
    if fixturedef.argname in SERVERS:
        _running[fixturedef.argname] = fixturedef, request


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop the servers that the next group does not use: even idle ones cost what the other processes need."""
    if nextitem is None or group_of(item.nodeid) == group_of(nextitem.nodeid):
        return
    for name in set(_running) - set(getattr(nextitem, "fixturenames", ())):
        fixture, request = _running.pop(name)
        fixture.finish(request)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole groups in their order."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)[1]

    config.option.loadscopereorder = False
    return Groups(config, log)
