"""Which nodes to ask for metrics: a node answers for the queues that it leads, so each has to be asked.

A URL may name several nodes separated by commas, or a name that resolves to all of them (a headless Service).
"""

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Node", "NodeFinder"]

RESOLVE_SECONDS = 10.0
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Node:
    """One address to ask; `host` is the name that it was found by."""

    base_url: str
    host: str | None = None  # None: the URL is asked as it stands
    port: int = 0


class NodeFinder:
    """Resolves names again each ten seconds: pods of a broker come back with other addresses."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = [url.strip().rstrip("/") for url in urls if url.strip()]
        self._nodes: tuple[Node, ...] = ()
        self._resolved_at = float("-inf")

    async def find(self) -> tuple[Node, ...]:
        """The nodes to ask now."""
        if time.monotonic() - self._resolved_at >= RESOLVE_SECONDS or not self._nodes:
            found = await asyncio.gather(*map(self._resolve, self._urls))
            self._nodes = tuple(dict.fromkeys(node for nodes in found for node in nodes))
            self._resolved_at = time.monotonic()
        return self._nodes

    async def _resolve(self, url: str) -> list[Node]:
        """One node per address; the URL itself when there is one address only, or none (asking it says why)."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 80)
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            return [Node(url)]
        # A node has an address in each family: one family only, or it is asked twice.
        addresses = {str(answer[4][0]) for answer in answers if answer[0] is socket.AF_INET}
        addresses = addresses or {str(answer[4][0]) for answer in answers}
        if len(addresses) < 2:
            return [Node(url)]
        login = f"{parts.netloc.rsplit('@', 1)[0]}@" if "@" in parts.netloc else ""
        return [
            Node(f"{parts.scheme}://{login}{_bracket(address)}:{port}{parts.path}", host, port)
            for address in sorted(addresses)
        ]


def _bracket(address: str) -> str:
    return f"[{address}]" if ":" in address else address
