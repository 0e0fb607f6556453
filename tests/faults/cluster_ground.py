"""Where faults strike on Kubernetes: the chart on the one-node cluster, and a queue whose workers note their runs.

They note them on a volume, which every fault leaves alone and this machine can read.
"""

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tests.faults.generator import QUEUE
from tests.support.cluster import Cluster, build_queue, run, running_cluster
from tests.support.waiting import eventually_sync

__all__ = ["WORKERS", "ClusterGround", "open_cluster_ground"]

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "tests" / "support" / "workerapp"
IMAGE = "docker.io/taskfleet/test-faults:dev"
VOLUME = "ledger"
WORKERS = 2
WORKER_MEMORY = "512Mi"
# Shorter than the defaults, as on the local stack; two API replicas, so that one can leave.
VALUES = {
    "api": {
        "replicas": 2,
        "auth": {"mode": "none"},
        "settings": {"republishGraceSeconds": 2, "leaseQuietSeconds": 5},
    },
}


class ClusterGround:
    """One installation; the same questions as of the local stack."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory  # of the ledger, here and in the workers' pods
        self._threads = ThreadPoolExecutor(1)
        self._node: Future[str] | None = None

    @property
    def submit_url(self) -> str:
        """Where clients submit."""
        return self.cluster.api_url

    def bring_node_up(self) -> None:
        """Start the node's dead processes in the background: the installation goes on without them."""
        self._node = self._threads.submit(self.cluster.node, "up", timeout_seconds=300)

    def wait_node(self) -> None:
        """Return once the node's processes run."""
        if self._node is not None:
            self._node.result(300)

    def wait_whole(self, timeout_seconds: float = 120) -> None:
        """Return once every part is Ready again, so that the next fault meets a whole installation."""
        self.wait_node()

        def is_whole() -> bool:
            pods = [pod for pod in self.cluster.find("pods") if "deletionTimestamp" not in pod["metadata"]]
            ready = all(_is_ready(pod) for pod in pods if pod["status"]["phase"] != "Succeeded")
            return ready and self.cluster.status(QUEUE).get("readyReplicas", 0) >= WORKERS

        eventually_sync(is_whole, timeout_seconds, 0.5)


@contextlib.contextmanager
def open_cluster_ground() -> Iterator[ClusterGround]:
    """Install, with a volume for the ledger that this machine can read too."""
    with running_cluster(**VALUES) as cluster:
        _build_image(cluster)
        directory = _make_volume(cluster)
        cluster.apply(build_fault_queue(directory))
        cluster.wait_ready(QUEUE, WORKERS)
        ground = ClusterGround(cluster, directory)
        try:
            yield ground
        finally:
            ground.wait_node()


def build_fault_queue(directory: Path) -> dict[str, object]:
    """The queue: its pods see the volume under the path that it has on the node."""
    mount = {"name": VOLUME, "mountPath": str(directory)}
    volume = {"name": VOLUME, "persistentVolumeClaim": {"claimName": VOLUME}}
    overlay = {"spec": {"containers": [{"name": "worker", "volumeMounts": [mount]}], "volumes": [volume]}}
    return build_queue(
        QUEUE,
        {"minReplicas": WORKERS, "maxReplicas": WORKERS + 1},
        {"limit": 20},
        image=IMAGE,
        maxTaskSeconds=60,
        resources={"limits": {"memory": WORKER_MEMORY}},
        template=overlay,
    )


def _build_image(cluster: Cluster) -> None:
    build = ["hack/local-cluster", "build", IMAGE, str(APP), "-f", str(APP.parent / "clusterapp" / "Dockerfile")]
    run(build, cluster.environment, timeout_seconds=600)
    run(["hack/local-cluster", "load", IMAGE], cluster.environment, timeout_seconds=600)


def _make_volume(cluster: Cluster) -> Path:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": VOLUME},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    cluster.kubectl("apply", "-f", "-", text=json.dumps(claim))
    name = eventually_sync(lambda: cluster.get("pvc", VOLUME)["spec"].get("volumeName"), 60, 0.3)
    return Path(cluster.get("pv", str(name))["spec"]["hostPath"]["path"])


def _is_ready(pod: dict) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"
