"""A thousand TaskQueues that exist when the operator starts."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.controlplane.operators import OperatorProcess
from tests.controlplane.rights import bind_rights
from tests.controlplane.samples import build_task_queue, queue_path
from tests.support.brokers import Valkey
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually_sync

COUNT = 1000
LIMIT_SECONDS = 300
pytestmark = pytest.mark.timeout(LIMIT_SECONDS + 120, func_only=True)


@pytest.fixture
def space(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace with a thousand TaskQueues."""
    namespace = control_plane.make_namespace("many")
    connection = http.client.HTTPSConnection("127.0.0.1", control_plane.port, context=control_plane.ssl_context)
    for number in range(COUNT):
        body = json.dumps(build_task_queue(namespace, f"q-{number:04}"))
        connection.request("POST", queue_path(namespace), body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()
        answer.read()
    connection.close()
    yield namespace
    control_plane.request("DELETE", queue_path(namespace))


def count_ready(plane: ControlPlane, namespace: str) -> int:
    """TaskQueues that are Ready."""
    items = plane.request("GET", queue_path(namespace))["items"]
    return sum(
        any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", ()))
        for item in items
    )


def test_all_are_served(control_plane: ControlPlane, valkey: Valkey, space: str, tmp_path: Path) -> None:
    """Each gets its Deployment and is Ready: no handler starves, and nobody is forgotten."""
    kubeconfig = bind_rights(control_plane, space)
    operator = OperatorProcess(control_plane, valkey, tmp_path, space, space, kubeconfig, lease_seconds=60).start()
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while (ready := count_ready(control_plane, space)) < COUNT:
            assert time.monotonic() < deadline, f"{ready} of {COUNT} are Ready"
            time.sleep(3)  # a list of a thousand is no light question
        deployments = control_plane.request("GET", f"/apis/apps/v1/namespaces/{space}/deployments")["items"]
        assert {item["spec"]["replicas"] for item in deployments} == {0}
        assert len(deployments) == COUNT

        def have_all_an_archive() -> bool:
            (archive,) = control_plane.request("GET", f"/api/v1/namespaces/{space}/configmaps")["items"]
            return len(archive["metadata"]["ownerReferences"]) == COUNT

        eventually_sync(have_all_an_archive, 60, 1)
    finally:
        operator.kill()
