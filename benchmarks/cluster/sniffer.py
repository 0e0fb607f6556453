"""Counts HTTP requests that reach a pod by looking at the packets on its link: nothing is in their way."""

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Counts", "counting_requests"]

POD_LINKS = "veth"  # what leaves on one of them arrives in a pod; pod to pod it never shows on the bridge itself
METHODS = (b"GET ", b"POST", b"PUT ", b"DELE", b"HEAD")
ETHERNET_BYTES = 14
TCP = 6


@dataclass
class Counts:
    """Requests so far: all of them, and by the sender's address."""

    requests: int = 0
    by_sender: Counter[str] = field(default_factory=Counter)


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
        packets.settimeout(0.5)

        def read() -> None:
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    frame, origin = packets.recvfrom(65535)
                    arrives = origin[2] == socket.PACKET_OUTGOING and origin[0].startswith(POD_LINKS)
                    if arrives and is_request(frame, wanted, ports):
                        counts.requests += 1
                        counts.by_sender[socket.inet_ntoa(frame[ETHERNET_BYTES + 12 : ETHERNET_BYTES + 16])] += 1

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield counts
        finally:
            stop.set()
            reader.join(5)
