"""Several replicas, lost connections and an API server that goes away: at most one acts, and all converges."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path

import pytest
from tests.controlplane.operators import OperatorProcess, get_condition
from tests.controlplane.rights import bind_rights
from tests.controlplane.samples import build_task_queue, create, queue_path
from tests.support.brokers import Valkey
from tests.support.controlplane import ControlPlane
from tests.support.proxies import Proxy
from tests.support.waiting import eventually

from taskfleet_operator.kube import open_kube

MERGE = "application/merge-patch+json"
LEASE_SECONDS = 6.0
SECONDS = 60

StartReplica = Callable[..., OperatorProcess]


@pytest.fixture
def space(control_plane: ControlPlane) -> str:
    """A namespace per test: its audit tells who wrote what."""
    return control_plane.make_namespace("leaders")


@pytest.fixture
async def start_replica(
    control_plane: ControlPlane, valkey: Valkey, space: str, tmp_path: Path
) -> AsyncIterator[StartReplica]:
    """Starts replicas with a ServiceAccount each, so that the audit tells them apart."""
    replicas: list[OperatorProcess] = []

    def start(name: str, *, port: int | None = None, lease_seconds: float = LEASE_SECONDS) -> OperatorProcess:
        kubeconfig = bind_rights(control_plane, space, name=name, port=port)
        replica = OperatorProcess(
            control_plane, valkey, tmp_path, space, space, kubeconfig, identity=name, lease_seconds=lease_seconds
        )
        replicas.append(replica.start(wait=False))
        return replica

    start.log_tails = lambda: [tail for replica in replicas for tail in replica.log_tails()]  # type: ignore[attr-defined]
    yield start
    for replica in replicas:
        replica.kill()


async def await_leading(replica: OperatorProcess) -> None:
    """Wait until it leads and is ready."""
    await eventually(lambda: asyncio.to_thread(replica.is_leading), SECONDS, 0.1)


async def await_exit(replica: OperatorProcess, seconds: float = 40) -> int:
    """Wait until it has ended by itself; the exit status."""
    assert replica.process is not None
    popen = replica.process.popen
    await eventually(lambda: popen.poll() is not None, seconds, 0.1)
    return int(popen.returncode)


async def make_ready(plane: ControlPlane, namespace: str, name: str) -> None:
    """Create a TaskQueue and wait until it is served."""
    create(plane, build_task_queue(namespace, name))
    await eventually(lambda: get_condition(plane, namespace, name).get("status") == "True", SECONDS, 0.1)


def list_writes(plane: ControlPlane, namespace: str) -> list[tuple[str, datetime]]:
    """Successful writes of replicas to anything but the Lease: (who, when it came to the API server)."""
    return [
        (entry["user"]["username"].rsplit(":", 1)[1], datetime.fromisoformat(entry["requestReceivedTimestamp"]))
        for entry in plane.read_audit(namespace)
        if entry["verb"] not in {"get", "list", "watch"}
        and entry["objectRef"]["resource"] != "leases"
        and entry["user"]["username"].startswith(f"system:serviceaccount:{namespace}:")
        and entry["responseStatus"]["code"] < 400
    ]


def assert_one_writer(plane: ControlPlane, namespace: str, first: str, second: str) -> None:
    """Whoever wrote first never writes again once the other one does."""
    writers = [who for who, _ in sorted(list_writes(plane, namespace), key=lambda write: write[1])]
    assert set(writers) == {first, second}
    assert first not in writers[writers.index(second) :]


async def watch_from(
    plane: ControlPlane, namespace: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, int | None]:
    """The first change that a watch from a version tells."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    kube = await open_kube()
    try:
        async for kind, item in kube.watch("Deployment", namespace, "", version, 5):
            return kind, item.get("code")
        return "", None
    finally:
        await kube.close()


async def test_standby_takes_over_from_a_killed_leader(
    control_plane: ControlPlane, space: str, start_replica: StartReplica
) -> None:
    """After kill -9 the standby leads once the Lease has run out, and serves what came meanwhile."""
    first = start_replica("first")
    await await_leading(first)
    second = start_replica("second")
    await eventually(lambda: asyncio.to_thread(lambda: second.probe("/readyz")[0] == 200), SECONDS, 0.1)
    assert second.read_metric("taskfleet_operator_leader") == 0
    await make_ready(control_plane, space, "before")
    first.kill()
    create(control_plane, build_task_queue(space, "meanwhile"))
    await await_leading(second)
    await eventually(lambda: get_condition(control_plane, space, "meanwhile").get("status") == "True", SECONDS, 0.1)
    assert_one_writer(control_plane, space, "first", "second")


async def test_clean_stop_hands_over(control_plane: ControlPlane, space: str, start_replica: StartReplica) -> None:
    """SIGTERM ends the leader with status 0 and frees the Lease."""
    first = start_replica("first")
    await await_leading(first)
    assert await asyncio.to_thread(first.stop) == 0
    lease = control_plane.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/{space}/leases/taskfleet-operator")
    assert not lease["spec"].get("holderIdentity")
    second = start_replica("second")
    await await_leading(second)


@pytest.mark.parametrize("fault", ["frozen", "cut"])
async def test_disconnected_leader_stops_before_the_next_acts(
    control_plane: ControlPlane, space: str, start_replica: StartReplica, fault: str
) -> None:
    """A leader that cannot reach the API server ends with a failure; what it had sent does no harm when it arrives."""
    async with Proxy(control_plane.port) as proxy:
        first = start_replica("first", port=proxy.port)
        await await_leading(first)
        second = start_replica("second")
        await make_ready(control_plane, space, "steady")
        proxy.freeze()
        if fault == "cut":
            proxy.cut()
        # Work for a leader: the frozen one does not hear of it, or sends what does not arrive.
        change = {"spec": {"worker": {"image": "registry.example/thumbs:2"}}}
        control_plane.request("PATCH", queue_path(space, "steady"), change, MERGE)
        await await_leading(second)
        create(control_plane, build_task_queue(space, "later"))
        await eventually(lambda: get_condition(control_plane, space, "later").get("status") == "True", SECONDS, 0.1)
        proxy.thaw()  # what was held back arrives now
        assert await await_exit(first) not in {0, None}
        create(control_plane, build_task_queue(space, "last"))
        await eventually(lambda: get_condition(control_plane, space, "last").get("status") == "True", SECONDS, 0.1)
    assert_one_writer(control_plane, space, "first", "second")


async def test_stopped_leader_writes_nothing_when_it_wakes(
    control_plane: ControlPlane, space: str, start_replica: StartReplica
) -> None:
    """A process that was halted for longer than its Lease (a suspended machine) ends without a write."""
    first = start_replica("first")
    await await_leading(first)
    second = start_replica("second")
    await make_ready(control_plane, space, "steady")
    assert first.process is not None
    first.process.signal(signal.SIGSTOP)
    try:
        for step in range(3):
            create(control_plane, build_task_queue(space, f"meanwhile-{step}"))
        await await_leading(second)
        await eventually(
            lambda: get_condition(control_plane, space, "meanwhile-2").get("status") == "True", SECONDS, 0.1
        )
        change = {"spec": {"worker": {"image": "registry.example/thumbs:2"}}}
        control_plane.request("PATCH", queue_path(space, "steady"), change, MERGE)
    finally:
        first.process.signal(signal.SIGCONT)
    assert await await_exit(first) not in {0, None}
    assert_one_writer(control_plane, space, "first", "second")


async def test_short_interruptions_are_survived(
    control_plane: ControlPlane, space: str, start_replica: StartReplica
) -> None:
    """Connections that are reset again and again, also in the middle of an answer, neither end nor stop the leader."""
    async with Proxy(control_plane.port) as proxy:
        first = start_replica("first", port=proxy.port, lease_seconds=30)
        await await_leading(first)
        for step in range(6):
            create(control_plane, build_task_queue(space, f"cut-{step}"))
            proxy.cut()
            await asyncio.sleep(0.3)
            proxy.cut()
        for step in range(6):
            await eventually(
                lambda step=step: get_condition(control_plane, space, f"cut-{step}").get("status") == "True",
                SECONDS,
                0.1,
            )
        # Deleted by hand while nobody watches: seen all the same.
        proxy.cut()
        path = f"/apis/apps/v1/namespaces/{space}/deployments/cut-0-worker"
        uid = control_plane.request("GET", path)["metadata"]["uid"]
        control_plane.request("DELETE", path)
        await eventually(
            lambda: (control_plane.find(path) or {}).get("metadata", {}).get("uid", uid) != uid, SECONDS, 0.1
        )
        assert first.process is not None
        assert first.process.is_running


async def test_operator_outlives_the_api_server(
    control_plane: ControlPlane, space: str, start_replica: StartReplica
) -> None:
    """The API server is killed for longer than the Lease: the leader ends, started anew (as Kubernetes does) it
    serves what changed and what was deleted meanwhile, and the history that it missed."""
    first = start_replica("first")
    await await_leading(first)
    await make_ready(control_plane, space, "kept")
    await make_ready(control_plane, space, "gone")
    control_plane.kill_api_server()
    try:
        assert await await_exit(first) == 1
        first.start(wait=False)
        # It bears that nothing answers at its start, and says so.
        await eventually(lambda: asyncio.to_thread(lambda: first.probe("/healthz")[0] == 200), SECONDS, 0.1)
        assert "lease" in first.probe("/readyz")[1].lower()
    finally:
        await asyncio.to_thread(control_plane.start_api_server)
    control_plane.request("DELETE", queue_path(space, "gone"))
    path = f"/apis/apps/v1/namespaces/{space}/deployments/kept-worker"
    control_plane.request("DELETE", path)
    await await_leading(first)
    await make_ready(control_plane, space, "after")
    await eventually(lambda: control_plane.find(path) is not None, SECONDS, 0.1)


async def test_short_outage_of_the_api_server_is_survived(
    control_plane: ControlPlane, space: str, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a longer Lease the same process goes on: versions too old to watch from (410) lead to a new list."""
    kubeconfig = bind_rights(control_plane, space)
    replica = OperatorProcess(control_plane, valkey, tmp_path, space, space, kubeconfig, lease_seconds=60)
    replica.start()
    try:
        await make_ready(control_plane, space, "kept")
        control_plane.kill_api_server()
        await asyncio.to_thread(control_plane.start_api_server)
        assert await watch_from(control_plane, space, "1", monkeypatch) == ("ERROR", 410)
        path = f"/apis/apps/v1/namespaces/{space}/deployments/kept-worker"
        control_plane.request("DELETE", path)
        await eventually(lambda: control_plane.find(path) is not None, SECONDS, 0.1)
        await make_ready(control_plane, space, "after")
        assert replica.process is not None
        assert replica.process.is_running
    finally:
        replica.kill()
