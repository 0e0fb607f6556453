"""Who reaches whom: connections made from within pods' network namespaces, whatever programs their images have."""

import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from tests.support.cluster import Cluster, Json

__all__ = ["Target", "find_open"]

Target = tuple[str, int]  # address and port
CONNECT_SECONDS = 3  # what a policy stops is dropped in silence; the first packet is sent again after a second
AT_ONCE = 4  # pods
# Open is what takes a byte: a first packet alone may get through where the next ones are dropped, and then all that a
# caller has is a handshake that the server never sees the end of.
CONNECT = """
import asyncio, fcntl, json, socket, struct, sys, termios

RESET = struct.pack("ii", 1, 0)

async def send_byte(target):
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await asyncio.get_running_loop().sock_connect(connection, tuple(target))
        connection.send(b"x")
        while struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0]:
            await asyncio.sleep(0.02)

async def is_open(target):
    try:
        await asyncio.wait_for(send_byte(target), float(sys.argv[1]))
    except OSError:  # also a time-out
        return False
    return True

async def main():
    targets = json.load(sys.stdin)
    print(json.dumps(await asyncio.gather(*(is_open(target) for target in targets))))

asyncio.run(main())
"""


def find_open(cluster: Cluster, callers: Mapping[str, Json], targets: Mapping[str, Target]) -> dict[str, set[str]]:
    """For each target the names of the callers, which are running pods, of whom it took a byte."""
    networks = {name: cluster.find_network(pod) for name, pod in callers.items()}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = dict(zip(networks, pool.map(lambda path: _connect(path, targets), networks.values()), strict=True))
    return {target: {name for name, reached in answers.items() if target in reached} for target in targets}


def _connect(network: str, targets: Mapping[str, Target]) -> set[str]:
    command = ["nsenter", f"--net={network}", sys.executable, "-c", CONNECT, str(CONNECT_SECONDS)]
    text = json.dumps(list(targets.values()))
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60)
    return {name for name, is_open in zip(targets, json.loads(done.stdout), strict=True) if is_open}
