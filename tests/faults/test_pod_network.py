"""What the faults of the network on the cluster do to packets, seen between two network namespaces of this machine."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.faults.pod_network import DELAY_SECONDS, Disturbance, NetworkFault, Side, find_lacking
from tests.support.processes import start_process
from tests.support.waiting import eventually_sync

pytestmark = pytest.mark.skipif(bool(find_lacking()), reason=f"needs {find_lacking()}")

PORT = 7000
ECHO = f"""
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(100):
            self.request.sendall(data)
socketserver.ThreadingTCPServer(("", {PORT}), Echo).serve_forever()
"""


@dataclass(frozen=True)
class Pod:
    """A network namespace with an echo server at `net`.3, reached from this machine's `net`.1 and `net`.2."""

    net: str
    namespace: str


@pytest.fixture(scope="module")
def pod() -> Iterator[Pod]:
    """Held by a process and without a name: `ip netns add` would touch a directory that a cluster's node shares."""
    holder = start_process(["unshare", "--net", "sleep", "infinity"])
    made = Pod(f"10.251.{os.getpid() % 250}", f"/proc/{holder.pid}/ns/net")
    eventually_sync(lambda: os.readlink(made.namespace) != os.readlink("/proc/self/ns/net"))
    inside, link = ["nsenter", f"--net={made.namespace}"], f"v{os.getpid()}"
    commands = [
        ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid)],
        ["ip", "addr", "add", f"{made.net}.1/24", "dev", link],
        ["ip", "addr", "add", f"{made.net}.2/24", "dev", link],
        ["ip", "link", "set", link, "up"],
        [*inside, "ip", "addr", "add", f"{made.net}.3/24", "dev", "eth0"],
        [*inside, "ip", "link", "set", "eth0", "up"],
    ]
    try:
        for command in commands:
            subprocess.run(command, check=True, timeout=20)
        server = start_process([*inside, sys.executable, "-c", ECHO], ready=lambda: _listens(f"{made.net}.3"))
        yield made
        server.kill()
    finally:
        holder.kill()


def test_only_packets_between_the_two_are_met_and_all_pass_afterwards(pod: Pod) -> None:
    for fault in NetworkFault:
        with _connect(pod, 1) as met, _connect(pod, 2) as other:
            assert min(_ask(met) for _ in range(20)) < DELAY_SECONDS  # one of them, however busy the machine is
            with _strike(pod, fault):
                begun = time.monotonic()
                _ask(other)
                if fault is NetworkFault.REFUSED:
                    with pytest.raises(ConnectionError):
                        _ask(met)
                    with pytest.raises(ConnectionError):
                        _connect(pod, 1)
                elif fault is NetworkFault.DROPPED:
                    with pytest.raises(TimeoutError):
                        _ask(met, seconds=2 * DELAY_SECONDS)
                else:
                    assert _ask(met) >= 2 * DELAY_SECONDS  # there and back
                sys.stdout.write(f"{fault}: {time.monotonic() - begun:.2f} s\n")
            if fault is NetworkFault.DROPPED:
                met.settimeout(20)
                assert met.recv(1) == b"x"  # what was sent meanwhile: TCP sends it again
        with _connect(pod, 1) as mended:
            _ask(mended)


@contextlib.contextmanager
def _strike(pod: Pod, fault: NetworkFault) -> Iterator[None]:
    side = Side(pod.namespace, frozenset({f"{pod.net}.1"}))
    disturbance = Disturbance(fault, lambda: [side])
    try:
        disturbance.spread()
        disturbance.spread()  # who is struck already is left alone
        yield
    finally:
        disturbance.lift()


def _connect(pod: Pod, number: int) -> socket.socket:
    return socket.create_connection((f"{pod.net}.3", PORT), timeout=10, source_address=(f"{pod.net}.{number}", 0))


def _ask(connection: socket.socket, seconds: float = 10) -> float:
    """Seconds until one byte came back."""
    begun = time.monotonic()
    connection.settimeout(seconds)
    connection.sendall(b"x")
    if not connection.recv(1):
        raise ConnectionResetError("closed")
    return time.monotonic() - begun


def _listens(address: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, PORT), timeout=1):
        return True
    return False
