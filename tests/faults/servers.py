"""Servers of special build: three RabbitMQ nodes as one cluster, and a PostgreSQL on a disk that can be filled."""

import contextlib
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.support.brokers import RabbitMQ
from tests.support.databases import PostgreSQL
from tests.support.processes import ManagedProcess, free_port, start_process
from tests.support.waiting import eventually_sync

__all__ = ["SmallDiskPostgreSQL", "fetch_leader", "start_names", "start_together"]

DISK_MEBIBYTES = 256
JOIN_SECONDS = 90


def start_names(count: int) -> tuple[ManagedProcess, list[RabbitMQ]]:
    """The daemon that knows the nodes' ports, which no node takes along when it dies, and nodes that form a cluster."""
    port = free_port()
    epmd = shutil.which("epmd") or "/usr/bin/epmd"
    names = start_process([epmd, "-port", str(port), "-address", "127.0.0.1"])
    nodes = [RabbitMQ("4.3", epmd_port=port) for _ in range(count)]
    lines = ["cluster_formation.peer_discovery_backend = classic_config"]
    lines += [f"cluster_formation.classic_config.nodes.{n} = {node.node_name}" for n, node in enumerate(nodes, 1)]
    for node in nodes:
        node.configure("\n".join(lines))
    return names, nodes


def start_together(nodes: Sequence[RabbitMQ]) -> None:
    """Start all and return once each sees all."""
    with ThreadPoolExecutor(len(nodes)) as pool:
        for started in [pool.submit(node.start) for node in nodes]:
            started.result()
    eventually_sync(lambda: _count_running(nodes[0]) == len(nodes), JOIN_SECONDS, 0.5)


def _count_running(node: RabbitMQ) -> int:
    return sum(bool(each.get("running")) for each in node.management("GET", "/api/nodes"))


def fetch_leader(nodes: Sequence[RabbitMQ], queue: str) -> RabbitMQ:
    """The node that leads a quorum queue."""

    def find() -> RabbitMQ | None:
        found = nodes[0].management("GET", f"/api/queues/%2F/{queue}")
        return next((node for node in nodes if node.node_name == found.get("leader")), None)

    return eventually_sync(find, 30, 0.5)


class SmallDiskPostgreSQL(PostgreSQL):
    """PostgreSQL whose data is on a small tmpfs, which only processes of its own mount namespace see."""

    def __init__(self) -> None:
        super().__init__()
        mount = f"mount -t tmpfs -o size={DISK_MEBIBYTES}m,mode=0700,uid=$(id -u postgres) tmpfs {self.data}"
        self._keeper = start_process(
            ["unshare", "--mount", "sh", "-c", f"{mount} && touch {self.folder}/mounted && exec sleep infinity"],
            ready=(self.folder / "mounted").exists,
        )

    def start(self) -> None:
        if self._inside(f"test -e {self.data}/PG_VERSION").returncode:
            self.initialise()
        self._process = start_process(
            [*self._enter(), "runuser", "-u", self.system_user, "--", *self.command()],
            cwd=self.folder,
            log=self.log,
            ready=self._answers,
            timeout_seconds=60,
        )
        self.ensure_database("taskfleet")

    def initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text("taskfleet")
        secret.chmod(0o644)
        options = f"-U taskfleet --pwfile {secret} -A scram-sha-256 -E UTF8 --locale C.UTF-8 --no-sync"
        made = self._inside(f"runuser -u postgres -- /usr/lib/postgresql/15/bin/initdb -D {self.data} {options}")
        assert made.returncode == 0, made.stdout

    def command(self) -> list[str]:
        # 2 GB of WAL, as elsewhere, would fill this disk without any fault.
        return [*super().command(), "-c", "max_wal_size=64MB", "-c", "wal_keep_size=0"]

    def fill(self) -> None:
        """Leave no byte free."""
        self._inside(f"dd if=/dev/zero of={self.data}/filler bs=1M count={2 * DISK_MEBIBYTES}")

    def free(self) -> None:
        """Give the room back."""
        self._inside(f"rm -f {self.data}/filler")

    def stop(self) -> None:
        with contextlib.suppress(AssertionError):
            super().stop()
        self._keeper.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _enter(self) -> list[str]:
        return ["nsenter", "-t", str(self._keeper.pid), "-m", "--"]

    def _inside(self, script: str) -> "subprocess.CompletedProcess[str]":
        command = [*self._enter(), "sh", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")
