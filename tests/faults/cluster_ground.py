"""Where faults strike on Kubernetes: the chart on the one-node cluster, and a queue whose workers note their runs.

They note them on a volume, which every fault leaves alone and this machine can read.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.faults.generator import QUEUE
from tests.support.cluster import RELEASE, VALUES, Cluster, Json, build_queue, open_cluster, run, running_cluster
from tests.support.waiting import eventually_sync
from tests.upgrades.previous import unpack_previous

__all__ = ["ROOT", "WORKERS", "ClusterGround", "ClusterOptions", "open_cluster_ground"]

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "tests" / "support" / "workerapp"
IMAGE = "docker.io/taskfleet/test-faults:dev"
PREVIOUS_TAG = "previous"
VOLUME = "ledger"
WORKERS = 2
WORKER_MEMORY = "512Mi"
WHOLE_SECONDS = 300  # a container that ended several times is started again minutes later
IMAGES_SECONDS = 1200
KNOWN_ANSWERS = 12  # of two replicas, each is asked but for once in 2,000


@dataclass(frozen=True)
class ClusterOptions:
    """What differs from one RabbitMQ and this version of Taskfleet."""

    broker_nodes: int = 1
    is_previous: bool = False  # the version before is installed

    def build_values(self) -> Json:
        """Of the chart: leases shorter than by default, as on one machine; two API replicas, so that one can leave."""
        values: Json = {
            "api": {
                "replicas": 2,
                "auth": {"mode": "none"},
                "settings": {"republishGraceSeconds": 2, "leaseQuietSeconds": 5},
            },
            # What the version before may not know is left at its default.
            "operator": {"scope": VALUES["operator"]["scope"]},
        }
        if self.broker_nodes > 1:
            values["rabbitmq"] = {**VALUES["rabbitmq"], "replicas": self.broker_nodes}
        if self.is_previous:
            values["image"] = {"tag": PREVIOUS_TAG}
        return values


class ClusterGround:
    """One installation; the same questions as of the local stack."""

    def __init__(self, cluster: Cluster, directory: Path, sources: Path, options: ClusterOptions) -> None:
        self.cluster = cluster
        self.directory = directory  # of the ledger, here and in the workers' pods
        self.sources = sources  # of what was installed first
        self.options = options
        self._threads = ThreadPoolExecutor(1)
        self._node: Future[str] | None = None
        self._networks: dict[str, str] = {}  # by the pod's uid

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

    def wait_whole(self) -> None:
        """Return once every part is Ready again, so that the next fault meets a whole installation."""
        self.wait_node()

        def is_whole() -> bool:
            pods = [pod for pod in self.cluster.find("pods") if "deletionTimestamp" not in pod["metadata"]]
            ready = all(_is_ready(pod) for pod in pods if pod["status"]["phase"] != "Succeeded")
            return ready and self.cluster.status(QUEUE).get("readyReplicas", 0) >= WORKERS and self._has_all_members()

        eventually_sync(is_whole, WHOLE_SECONDS, 0.5)

    def find_component(self, name: str) -> list[Json]:
        """The pods of a part of the chart."""
        return self.cluster.find("pods", f"app.kubernetes.io/component={name}")

    def find_network(self, pod: Json) -> str:
        """The path of a pod's network namespace; empty as long as its container does not run."""
        uid = pod["metadata"]["uid"]
        containers = pod["status"].get("containerStatuses", [])
        if uid not in self._networks and containers and "running" in containers[0]["state"]:
            self._networks[uid] = self.cluster.find_network(pod)
        return self._networks.get(uid, "")

    def find_address(self, service: str, namespace: str = "") -> str:
        """The address of a Service."""
        arguments = ["get", "service", service, "-o", "jsonpath={.spec.clusterIP}"]
        return self.cluster.kubectl(*arguments, *(["--namespace", namespace] if namespace else []))

    def fetch_queue(self) -> Json:
        """The queue as RabbitMQ's management shows it; empty when it does not answer."""
        password = self.cluster.read_secret(f"{RELEASE}-broker", "password")
        address = f"http://{self.find_address(f'{RELEASE}-rabbitmq')}:15672/api/queues/%2F/{QUEUE}"
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.get(address, auth=("taskfleet", password), timeout=5, trust_env=False)
            return dict(answer.json()) if answer.status_code == 200 else {}
        return {}

    def _has_all_members(self) -> bool:
        nodes = self.options.broker_nodes
        return nodes == 1 or len(self.fetch_queue().get("online", [])) == nodes


@contextlib.contextmanager
def open_cluster_ground(options: ClusterOptions) -> Iterator[ClusterGround]:
    """Install, with a volume for the ledger that this machine can read too."""
    with contextlib.ExitStack() as stack:
        sources = ROOT
        if options.is_previous:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="previous-"))
            sources = unpack_previous(Path(folder))
            _build_previous_images(sources)
            stack.callback(_restore_crds)
        cluster = stack.enter_context(running_cluster(sources=sources, **options.build_values()))
        _build_image(cluster)
        directory = _make_volume(cluster)
        cluster.apply(build_fault_queue(directory))
        cluster.wait_ready(QUEUE, WORKERS, WHOLE_SECONDS)
        eventually_sync(lambda: _is_accepted_everywhere(cluster), WHOLE_SECONDS, 1)
        ground = ClusterGround(cluster, directory, sources, options)
        stack.callback(ground.wait_node)
        yield ground


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


def _is_accepted_everywhere(cluster: Cluster) -> bool:
    """Whether each API replica takes tasks for the queue: each request may meet another one."""
    task = {"queue": QUEUE, "task": "jobs.add", "args": [2, 3]}
    return all(cluster.api.request("POST", "/tasks", json=task).status_code == 202 for _ in range(KNOWN_ANSWERS))


def _build_image(cluster: Cluster) -> None:
    build = ["hack/local-cluster", "build", IMAGE, str(APP), "-f", str(APP.parent / "clusterapp" / "Dockerfile")]
    run(build, cluster.environment, timeout_seconds=IMAGES_SECONDS)
    run(["hack/local-cluster", "load", IMAGE], cluster.environment, timeout_seconds=IMAGES_SECONDS)


def _build_previous_images(sources: Path) -> None:
    """As `hack/images` builds those of this version, under a tag of their own."""
    environment = open_cluster()
    tags = [f"docker.io/taskfleet/{part}:{PREVIOUS_TAG}" for part in ("api", "operator")]
    for part, tag in zip(("api", "operator"), tags, strict=True):
        build = ["hack/local-cluster", "build", tag, str(sources), "-f", str(sources / part / "Dockerfile")]
        run(build, environment, timeout_seconds=IMAGES_SECONDS)
    run(["hack/local-cluster", "load", *tags], environment, timeout_seconds=IMAGES_SECONDS)


def _restore_crds() -> None:
    """The cluster's other installations are of this version."""
    apply = ["kubectl", "apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "k8s/crd")]
    run(apply, open_cluster())


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


def _is_ready(pod: Json) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True"
