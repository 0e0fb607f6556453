"""Counts HTTP requests that reach a pod by looking at the packets on the node's bridge: nothing is in their way."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Counts", "counting_requests"]

BRIDGE = "cni0"
METHODS = (b"GET ", b"POST", b"PUT ", b"DELE", b"HEAD")
ETHERNET_BYTES = 14
TCP = 6


@dataclass
class Counts:
    """Requests so far."""

    requests: int = 0


def is_request(frame: bytes, address: bytes, ports: set[int]) -> bool:
    """Whether an Ethernet frame begins an HTTP request to one of the ports of the address. Pure."""
    packet = frame[ETHERNET_BYTES:]
    if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != TCP or packet[16:20] != address:
        return False
    head = (packet[0] & 15) * 4
    if struct.unpack_from("!H", packet, head + 2)[0] not in ports:
        return False
    payload = packet[head + (packet[head + 12] >> 4) * 4 :]
    return payload[:4] in METHODS


@contextlib.contextmanager
def counting_requests(address: str, ports: set[int]) -> Iterator[Counts]:
    """Count while the block runs."""
    counts = Counts()
    stop = threading.Event()
    wanted = socket.inet_aton(address)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)) as packets:
        packets.bind((BRIDGE, 0))
        packets.settimeout(0.5)

        def read() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    frame, origin = packets.recvfrom(65535)
                    # Outgoing on the bridge: towards the pod, after the Service's address was replaced by the pod's.
                    if origin[2] == socket.PACKET_OUTGOING and is_request(frame, wanted, ports):
                        counts.requests += 1

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield counts
        finally:
            stop.set()
            reader.join(5)
