"""Everything that the dashboards are about, as real processes: API, workers, operator; a Prometheus; and some load."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.controlplane.operators import OperatorProcess
from tests.controlplane.samples import build_task_queue, create
from tests.support.brokers import RabbitMQ
from tests.support.controlplane import ControlPlane, control_plane
from tests.support.prometheus import Prometheus
from tests.support.stack import Stack, StackOptions, running_stack
from tests.support.waiting import eventually_sync

from taskfleet import Client, Retry, Submission
from taskfleet.errors import TaskfleetError
from taskfleet_operator.names import build_labels, build_selector

__all__ = ["Monitored", "control_plane"]

QUEUE = "jobs"


@dataclass
class Monitored:
    """An installation under load and the Prometheus that looks at it."""

    stack: Stack
    operator: OperatorProcess
    prometheus: Prometheus
    namespace: str

    def log_tails(self) -> list[tuple[str, str]]:
        """For the report of a failed test."""
        return [*self.stack.log_tails(), *self.operator.log_tails()]


@pytest.fixture(scope="module")
def monitored(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    """API and worker on {RabbitMQ 4.3, SQLite}, an operator on a real Kubernetes API, load until the tests are over."""
    folder = tmp_path_factory.mktemp("monitored")
    with ExitStack() as closing:
        stack = closing.enter_context(running_stack(StackOptions(broker="4.3", database="sqlite")))
        stack.add_queue(QUEUE)
        namespace = control_plane.make_namespace("dash")
        create(control_plane, build_task_queue(namespace, QUEUE, scaling={"maxReplicas": 3}))
        operator = _build_operator(control_plane, stack, folder, namespace)
        closing.callback(operator.kill)
        operator.start()
        uid = _create_pod(control_plane, namespace)
        stack.start_worker(QUEUE, env={"TASKFLEET_POD_UID": uid})
        targets = {
            "taskfleet-api": stack.base_url.removeprefix("http://"),
            "taskfleet-operator": f"127.0.0.1:{operator.metrics_port}",
        }
        prometheus = Prometheus(folder, targets)
        closing.callback(prometheus.stop)
        prometheus.start()
        closing.enter_context(_Load(stack.base_url))
        eventually_sync(lambda: not prometheus.list_down(), 60, 0.2)
        yield Monitored(stack, operator, prometheus, namespace)


def _build_operator(plane: ControlPlane, stack: Stack, folder: Path, namespace: str) -> OperatorProcess:
    assert isinstance(stack.broker, RabbitMQ)
    environment = {
        "TASKFLEET_OPERATOR_BROKER_URL": stack.broker.url,
        "TASKFLEET_OPERATOR_BROKER_MANAGEMENT_URL": stack.broker.management_url,
        "TASKFLEET_OPERATOR_BROKER_METRICS_URL": stack.broker.metrics_url,
        "TASKFLEET_OPERATOR_MAX_REPLICAS": "50",  # limits have metrics only where there is one
    }
    kubeconfig = plane.write_kubeconfig("operator")
    return OperatorProcess(plane, stack.valkey, folder, namespace, namespace, kubeconfig, environment=environment)


def _create_pod(plane: ControlPlane, namespace: str) -> str:
    """The pod that the worker process stands in for: there is no node that would run one. Returns its uid."""
    plane.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}})
    pod = {
        "metadata": {"name": "jobs-worker-0", "labels": {**build_labels(QUEUE), **build_selector(QUEUE)}},
        "spec": {"containers": [{"name": "worker", "image": "registry.example/thumbs:1.4"}]},
    }
    made = plane.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    uid: str = made["metadata"]["uid"]
    return uid


class _Load:
    """A few submissions each second, good and bad ones, until the block ends."""

    def __init__(self, url: str) -> None:
        self._client = Client(url)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> "_Load":
        self._client.put_schedule("often", {"queue": QUEUE, "task": "jobs.add", "args": [1, 2], "interval_seconds": 1})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)
        self._client.close()

    def _run(self) -> None:
        while not self._over.wait(0.2):
            self._client.submit(QUEUE, "jobs.sleep", [0.1])
            self._client.submit(QUEUE, "jobs.add", [1, 2], wait_seconds=1)
            self._client.submit_many([Submission(QUEUE, "jobs.add", [1, 2])] * 5)
            self._client.submit_many([Submission(QUEUE, "jobs.fail", retry=Retry(max_attempts=2, backoff_seconds=0.1))])
            self._client.submit(QUEUE, "jobs.fail")
            try:
                self._client.submit("no-such-queue", "jobs.add")
            except TaskfleetError:
                continue
