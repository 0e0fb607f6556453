"""What every case needs at hand."""

from dataclasses import dataclass

from tests.support.cluster import Cluster

from benchmarks.keda.loads import Servers

__all__ = ["Setting"]


@dataclass(frozen=True)
class Setting:
    """The installation, its servers by their addresses, and how many rounds a figure has."""

    cluster: Cluster
    servers: Servers
    rounds: int
