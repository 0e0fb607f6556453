"""Pods and wanted replicas of one queue as the Kubernetes API tells of them, each change with the time it was seen."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.support.cluster import Cluster
from tests.support.waiting import eventually_sync

__all__ = ["PodLife", "Sightings", "watching"]

POD_LINE = '{.type} {.object.metadata.name} {.object.metadata.deletionTimestamp}{"\\n"}'
REPLICAS_LINE = '{.spec.replicas}{"\\n"}'


@dataclass
class PodLife:
    """When a pod came and went; Unix seconds."""

    came: float
    gone: float | None = None


@dataclass
class Sightings:
    """What was seen so far."""

    replicas: list[tuple[float, int]] = field(default_factory=list)
    pods: dict[str, PodLife] = field(default_factory=dict)

    def note_pod(self, line: str, at: float) -> None:
        """Take in one line of the watch: ADDED, MODIFIED or DELETED and the pod's name."""
        kind, name, *_ = line.split(" ")
        life = self.pods.setdefault(name, PodLife(at))
        if kind == "DELETED":
            life.gone = at

    def find_first_scale(self, since: float) -> float | None:
        """Seconds from `since` to the first wish for a pod."""
        return next((at - since for at, replicas in self.replicas if replicas and at >= since), None)

    def count_pod_seconds(self, until: float) -> float:
        """Seconds that pods existed, leaving ones included, added up to `until`."""
        return sum(max(0.0, min(life.gone or until, until) - life.came) for life in list(self.pods.values()))

    def count_present(self) -> int:
        """Pods that are there now."""
        return sum(life.gone is None for life in list(self.pods.values()))


@contextlib.contextmanager
def watching(cluster: Cluster, deployment: str, selector: str) -> Iterator[Sightings]:
    """Watch while the block runs."""
    seen = Sightings()

    def note_replicas(line: str, at: float) -> None:
        seen.replicas.append((at, int(line or 0)))

    with contextlib.ExitStack() as stack:
        replicas = ("deployment", deployment, "-o", f"jsonpath={REPLICAS_LINE}")
        pods = ("pods", "-l", selector, "--output-watch-events", "-o", f"jsonpath={POD_LINE}")
        stack.enter_context(_reading(cluster, replicas, note_replicas))
        stack.enter_context(_reading(cluster, pods, seen.note_pod))
        eventually_sync(lambda: seen.replicas, 30)
        time.sleep(1)  # no line tells that the watch of no pods has begun
        yield seen


@contextlib.contextmanager
def _reading(cluster: Cluster, arguments: tuple[str, ...], note: Callable[[str, float], None]) -> Iterator[None]:
    command = ["kubectl", "-n", cluster.namespace, "get", "--watch", *arguments]
    with subprocess.Popen(command, env=cluster.environment, stdout=subprocess.PIPE, text=True) as process:

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                note(line.rstrip("\n"), time.time())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            reader.join(5)
