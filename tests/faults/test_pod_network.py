"""What the faults of the network on the cluster do to packets, seen between two network namespaces of this machine."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.faults.pod_network import DELAY_SECONDS, Disturbance, NetworkFault, Side, find_lacking
from tests.support.processes import start_process

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


@pytest.fixture(scope="module")
def pod() -> Iterator[str]:
    """A namespace with an echo server, reached from two addresses of this machine: 10.251.x.1 and 10.251.x.2."""
    name = f"pod-{os.getpid()}"
    net = f"10.251.{os.getpid() % 250}"
    commands = [
        f"ip netns add {name}",
        f"ip link add v{os.getpid()} type veth peer name eth0 netns {name}",
        f"ip addr add {net}.1/24 dev v{os.getpid()}",
        f"ip addr add {net}.2/24 dev v{os.getpid()}",
        f"ip link set v{os.getpid()} up",
        f"ip -n {name} addr add {net}.3/24 dev eth0",
        f"ip -n {name} link set eth0 up",
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, timeout=20)
        server = start_process(
            ["ip", "netns", "exec", name, sys.executable, "-c", ECHO], ready=lambda: _listens(f"{net}.3")
        )
        yield net
        server.kill()
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, timeout=20)


def test_only_packets_between_the_two_are_met_and_all_pass_afterwards(pod: str) -> None:
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
def _strike(pod: str, fault: NetworkFault) -> Iterator[None]:
    side = Side(f"/run/netns/pod-{os.getpid()}", frozenset({f"{pod}.1"}))
    disturbance = Disturbance(fault, lambda: [side])
    try:
        disturbance.spread()
        disturbance.spread()  # who is struck already is left alone
        yield
    finally:
        disturbance.lift()


def _connect(pod: str, number: int) -> socket.socket:
    return socket.create_connection((f"{pod}.3", PORT), timeout=10, source_address=(f"{pod}.{number}", 0))


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
