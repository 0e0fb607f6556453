"""Every node of a broker is asked, and none twice."""

import asyncio
import socket
from typing import Any

import pytest

from taskfleet_core.statistics.rabbitmq_nodes import Node, NodeFinder

ADDRESSES = {
    "nodes.broker.svc": [(socket.AF_INET, "10.0.0.2"), (socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "fd00::1")],
    "one.broker.svc": [(socket.AF_INET, "10.0.0.9"), (socket.AF_INET6, "fd00::9")],
    "six.broker.svc": [(socket.AF_INET6, "fd00::1"), (socket.AF_INET6, "fd00::2")],
}


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        pytest.param(
            ["http://nodes.broker.svc:15692/"],
            [
                Node("http://10.0.0.1:15692", "nodes.broker.svc", 15692),
                Node("http://10.0.0.2:15692", "nodes.broker.svc", 15692),
            ],
            id="a headless Service is all its nodes, each by one family",
        ),
        pytest.param(["http://one.broker.svc:15692"], [Node("http://one.broker.svc:15692")], id="one node by its name"),
        pytest.param(
            ["http://a:1", " http://b:2/ ", "http://a:1", ""],
            [Node("http://a:1"), Node("http://b:2")],
            id="several URLs, none twice; what cannot be resolved is asked by its name and says why",
        ),
        pytest.param(
            ["https://six.broker.svc/base"],
            [
                Node("https://[fd00::1]:443/base", "six.broker.svc", 443),
                Node("https://[fd00::2]:443/base", "six.broker.svc", 443),
            ],
            id="IPv6 only",
        ),
    ],
)
async def test_urls_become_nodes(monkeypatch: pytest.MonkeyPatch, urls: list[str], expected: list[Node]) -> None:
    async def resolve(host: str, port: int, **_: Any) -> list[Any]:
        if host not in ADDRESSES:
            raise socket.gaierror("no such host")
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in ADDRESSES[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    assert list(await NodeFinder(urls).find()) == expected
