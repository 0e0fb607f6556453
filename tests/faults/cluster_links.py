"""Faults of the network between pods of the installation: on the caller's side, for packets to and from the called."""

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass

from tests.faults.cluster_ground import ClusterGround
from tests.faults.generator import QUEUE
from tests.faults.pod_network import Disturbance, NetworkFault, Side
from tests.faults.striking import Fault, Field, Strike
from tests.support.cluster import RELEASE, Json

__all__ = ["LINK_FAULTS", "cut_off", "strike_while"]

SPREAD_SECONDS = 3.0  # between two looks for pods that came meanwhile
WORKER, CLIENT = "worker", "client"
KUBERNETES = "kubernetes"


@dataclass(frozen=True)
class Link:
    """Who calls whom: names of the chart's components, or one of the names above."""

    name: str
    caller: str
    called: str


LINKS = (
    Link("API to database", "api", "postgresql"),
    Link("API to broker", "api", "rabbitmq"),
    Link("API to Valkey", "api", "valkey"),
    Link("worker to broker", WORKER, "rabbitmq"),
    Link("worker to Valkey", WORKER, "valkey"),
    Link("operator to broker", "operator", "rabbitmq"),
    Link("operator to Valkey", "operator", "valkey"),
    Link("operator to Kubernetes' API", "operator", KUBERNETES),
    Link("client to API", CLIENT, "api"),
)


def _find_peers(ground: ClusterGround, link: Link) -> frozenset[str]:
    """The addresses of the one that is called: its Service's, and its pods'."""
    if link.called == KUBERNETES:
        return frozenset({ground.find_address(KUBERNETES, "default")})
    service = ground.find_address(f"{RELEASE}-{link.called}")
    if link.caller == CLIENT:
        return frozenset({service})  # the kubelet asks the pods themselves
    return frozenset({service, *_addresses(ground.find_component(link.called))})


def _find_sides(ground: ClusterGround, link: Link, peers: frozenset[str]) -> Iterable[Side]:
    if link.caller == CLIENT:
        return [Side("", peers)]
    pods = ground.cluster.pods(QUEUE) if link.caller == WORKER else ground.find_component(link.caller)
    return [Side(network, peers) for pod in pods if (network := ground.find_network(pod))]


def _addresses(pods: Iterable[Json]) -> list[str]:
    return [address for pod in pods if (address := pod["status"].get("podIP"))]


def strike_while(field: Field, disturbance: Disturbance) -> None:
    """The network is disturbed as long as the pace says, and mended in any case."""
    try:
        disturbance.spread()
        until = time.monotonic() + field.pace.network_seconds
        while (left := until - time.monotonic()) > 0:
            field.last(min(left, SPREAD_SECONDS))
            disturbance.spread()
    finally:
        disturbance.lift()
    field.lift()


def _disturb(link: Link, fault: NetworkFault) -> Strike:
    def strike(field: Field) -> None:
        find = functools.partial(_find_sides, field.stack, link, _find_peers(field.stack, link))
        strike_while(field, Disturbance(fault, find))

    return strike


def cut_off(field: Field, pod: Json, others: Iterable[Json]) -> None:
    """No packet between a pod and others of its kind."""
    side = Side(field.stack.find_network(pod), frozenset(_addresses(others)))
    assert side.namespace, "the pod to be cut off does not run"
    strike_while(field, Disturbance(NetworkFault.DROPPED, lambda: [side]))


LINK_FAULTS = tuple(
    Fault(f"{link.name}: {fault}", "Network", _disturb(link, fault)) for fault in NetworkFault for link in LINKS
)
