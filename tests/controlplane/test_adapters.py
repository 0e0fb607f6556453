"""The operator's Kubernetes adapter and what stands on it, within this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from tests.controlplane.samples import build_task_queue, create
from tests.support.controlplane import ControlPlane
from tests.support.proxies import Proxy
from tests.support.waiting import eventually

from taskfleet_core.ending import end_tasks
from taskfleet_core.errors import ConflictError, NotFoundError, UnavailableError
from taskfleet_operator import kube as kube_module
from taskfleet_operator.events import BURST, REFILL_SECONDS, EventSender
from taskfleet_operator.kube import ForbiddenError, Kube, NotLeaderError, RefusedError, open_kube
from taskfleet_operator.observed import EventToSend
from taskfleet_operator.watching import Watcher

LABELS = {"app.kubernetes.io/managed-by": "taskfleet-operator"}


@contextlib.asynccontextmanager
async def connect(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, **where: Any) -> AsyncIterator[Kube]:
    """An adapter, as administrator unless a token says otherwise."""
    monkeypatch.setenv("KUBECONFIG", str(plane.write_kubeconfig("adapter", **where)))
    kube = await open_kube(timeout_seconds=5)
    try:
        yield kube
    finally:
        await kube.close()


def build_account(namespace: str, name: str, **fields: Any) -> dict[str, Any]:
    """A small object of a kind that the operator watches."""
    metadata = {"name": name, "namespace": namespace, "labels": LABELS}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, **fields}


async def test_answers_become_errors_by_what_helps(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    """Missing, forbidden, refused and conflicting are told apart, whatever else is retried."""
    async with connect(control_plane, monkeypatch) as kube:
        with pytest.raises(NotFoundError):
            await kube.get("Secret", namespace, "nobody")
        assert await kube.find("Secret", namespace, "nobody") is None
        await kube.apply(build_account(namespace, "one"))
        with pytest.raises(ConflictError):
            await kube.create(build_account(namespace, "one"))
        old = build_account(namespace, "one", automountServiceAccountToken=False)
        old["metadata"] = {**old["metadata"], "resourceVersion": "1"}
        with pytest.raises(ConflictError):
            await kube.apply(old)
        with pytest.raises(RefusedError):
            await kube.apply(build_account(namespace, "Not_A_Name"))
        with pytest.raises(RefusedError):
            await kube.apply(build_account(namespace, "one", secrets="text"))
    async with connect(control_plane, monkeypatch, token="nonsense") as stranger:
        with pytest.raises(ForbiddenError):
            await stranger.get("Secret", namespace, "nobody")


async def test_writes_ask_whether_this_replica_leads(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    """Without the Lease nothing is sent but reads."""
    async with connect(control_plane, monkeypatch) as kube:
        kube.guard_writes(lambda: False)
        with pytest.raises(NotLeaderError):
            await kube.apply(build_account(namespace, "stale"))
        with pytest.raises(NotLeaderError):
            await kube.annotate_pod(namespace, "any", {"a": "b"})
        assert await kube.find("ServiceAccount", namespace, "stale") is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", id="cut short"),
        pytest.param(b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"kind":', id="half a document"),
        pytest.param(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>", id="a balancer"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="no HTTP"),
    ],
)
async def test_half_answers_are_outages(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """What is no whole answer can be tried again: it is neither a crash nor an empty result."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # a client may leave without a word
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        path = control_plane.write_kubeconfig("plain", "token", server.sockets[0].getsockname()[1])
        path.write_text(path.read_text().replace("https://", "http://"))
        monkeypatch.setenv("KUBECONFIG", str(path))
        kube = await open_kube(timeout_seconds=5)
        try:
            with pytest.raises(UnavailableError):
                await kube.get("Secret", "any", "any")
            changes = []
            with contextlib.suppress(UnavailableError):
                changes = [change async for change in kube.watch("Secret", "any", "", "1", 5)]
            assert changes == []
        finally:
            await kube.close()


async def test_watcher_sees_what_happened_behind_a_dead_connection(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    """A connection that stays open and silent is given up; what came, changed and went meanwhile is found."""
    monkeypatch.setattr(kube_module, "WATCH_SILENCE_SECONDS", 1.0)
    heard: list[str] = []
    async with Proxy(control_plane.port) as proxy:
        through = connect(control_plane, monkeypatch, port=proxy.port)
        async with through as kube, connect(control_plane, monkeypatch) as direct:
            await direct.apply(build_account(namespace, "stays"))
            await direct.apply(build_account(namespace, "goes"))
            watcher = Watcher(kube, "ServiceAccount", namespace, lambda item: heard.append(item["metadata"]["name"]))
            task = asyncio.create_task(watcher.run())
            await watcher.synced.wait()
            proxy.freeze()
            await direct.apply(build_account(namespace, "comes"))
            await direct.apply(build_account(namespace, "stays", automountServiceAccountToken=False))
            await direct.delete(await direct.get("ServiceAccount", namespace, "goes"))
            heard.clear()
            proxy.thaw()
            proxy.cut()
            await eventually(lambda: {"comes", "stays", "goes"} <= set(heard), 30)
            assert watcher.get(namespace, "goes") is None
            assert watcher.get(namespace, "comes") is not None
            stays = watcher.get(namespace, "stays")
            assert stays is not None
            assert stays["automountServiceAccountToken"] is False
            await end_tasks([task])


async def test_events_are_rate_limited(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    """The same one comes once in five minutes; of different ones a few at a time, and then one now and again."""
    now = 0.0
    queue = create(control_plane, build_task_queue(namespace, "talkative"))

    def count() -> int:
        events = control_plane.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        return sum(event["involvedObject"]["uid"] == queue["metadata"]["uid"] for event in events)

    async with connect(control_plane, monkeypatch) as kube:
        sender = EventSender(kube, lambda: now)
        for _ in range(3):
            await sender.send(queue, EventToSend("Normal", "ScaledUp", "the same"))
        assert count() == 1
        for number in range(2 * BURST):
            await sender.send(queue, EventToSend("Normal", "ScaledUp", f"{number} -> {number + 1} replicas"))
        assert count() == BURST
        now += REFILL_SECONDS
        for number in range(3):
            await sender.send(queue, EventToSend("Normal", "ScaledDown", f"{number}"))
        assert count() == BURST + 1
    event = control_plane.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"][0]
    assert datetime.fromisoformat(event["lastTimestamp"]).tzinfo is not None
