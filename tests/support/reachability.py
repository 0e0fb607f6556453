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
CONNECT = """
import asyncio, json, sys

async def is_open(address, port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), float(sys.argv[1]))
    except OSError:  # also a time-out
        return False
    writer.close()
    return True

async def main():
    targets = json.load(sys.stdin)
    print(json.dumps(await asyncio.gather(*(is_open(*target) for target in targets))))

asyncio.run(main())
"""


def find_open(cluster: Cluster, callers: Mapping[str, Json], targets: Mapping[str, Target]) -> dict[str, set[str]]:
    """For each target the names of the callers, which are running pods, whose connection it took."""
    networks = {name: cluster.find_network(pod) for name, pod in callers.items()}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = dict(zip(networks, pool.map(lambda path: _connect(path, targets), networks.values()), strict=True))
    return {target: {name for name, reached in answers.items() if target in reached} for target in targets}


def _connect(network: str, targets: Mapping[str, Target]) -> set[str]:
    command = ["nsenter", f"--net={network}", sys.executable, "-c", CONNECT, str(CONNECT_SECONDS)]
    text = json.dumps(list(targets.values()))
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60)
    return {name for name, is_open in zip(targets, json.loads(done.stdout), strict=True) if is_open}
