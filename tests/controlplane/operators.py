"""Runs `python -m taskfleet_operator` against the test control plane, with Valkey as broker and store."""

import contextlib
import http.client
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.controlplane.samples import queue_path
from tests.support.brokers import Valkey
from tests.support.controlplane import ControlPlane
from tests.support.processes import ManagedProcess, free_port, start_process

__all__ = ["OperatorProcess", "get_condition"]


@dataclass
class OperatorProcess:
    """One operator process. Without a namespace it serves the whole cluster."""

    plane: ControlPlane
    valkey: Valkey
    folder: Path
    namespace: str | None
    lease_namespace: str
    kubeconfig: Path
    identity: str = field(default_factory=lambda: f"operator-{uuid.uuid4().hex[:6]}")
    lease_seconds: float = 6
    environment: dict[str, str] = field(default_factory=dict)
    probes_port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: ManagedProcess | None = None

    def start(self, *, wait: bool = True) -> "OperatorProcess":
        """Start; with `wait` until it leads and is ready."""
        values = {
            "KUBECONFIG": str(self.kubeconfig),
            "TASKFLEET_OPERATOR_LEASE_NAMESPACE": self.lease_namespace,
            "TASKFLEET_OPERATOR_LEASE_SECONDS": str(self.lease_seconds),
            "TASKFLEET_OPERATOR_IDENTITY": self.identity,
            "TASKFLEET_OPERATOR_BROKER_URL": self.valkey.url,
            "TASKFLEET_OPERATOR_REDIS_URL": self.valkey.url,
            "TASKFLEET_OPERATOR_PROBES_PORT": str(self.probes_port),
            "TASKFLEET_OPERATOR_METRICS_PORT": str(self.metrics_port),
            **self.environment,
        }
        if self.namespace:
            values["TASKFLEET_OPERATOR_NAMESPACE"] = self.namespace
        self.process = start_process(
            [sys.executable, "-m", "taskfleet_operator"],
            env=values,
            log=self.folder / f"{self.identity}.log",
            ready=self.is_leading if wait else None,
            timeout_seconds=60,
        )
        return self

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        return self.process.terminate()

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()

    def is_leading(self) -> bool:
        """Whether it leads and has listed what it watches."""
        return self.read_metric("taskfleet_operator_leader") == 1 and self.probe("/readyz")[0] == 200

    def probe(self, path: str) -> tuple[int, str]:
        """Status and text of a probe; (0, "") when nothing answers."""
        return self._get(self.probes_port, path)

    def read_metric(self, name: str) -> float | None:
        """A metric without labels, or None."""
        for line in self._get(self.metrics_port, "/metrics")[1].splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        return None

    def log_tails(self) -> list[tuple[str, str]]:
        """The end of the log, for the report of a failed test."""
        return [] if self.process is None else [(f"log of {self.identity}", self.process.output(6000))]

    @staticmethod
    def _get(port: int, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        return 0, ""


def get_condition(plane: ControlPlane, namespace: str, name: str, kind: str = "Ready") -> dict[str, Any]:
    """One condition of a TaskQueue; empty when it is not there yet."""
    queue = plane.find(queue_path(namespace, name)) or {}
    conditions = queue.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == kind), {})
