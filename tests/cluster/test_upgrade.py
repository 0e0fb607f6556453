"""`helm upgrade` with a changed value, then `helm rollback`, while tasks are submitted and run."""

import json
import threading
from collections import Counter

import httpx
from tests.support.cluster import RELEASE, VALUES, Cluster, build_queue
from tests.support.noted_runs import Load
from tests.support.waiting import eventually_sync

PAUSE_SECONDS = 0.3


class Submitter:
    """Submits one task after the other, each over a connection of its own, and notes what was not answered by 202."""

    def __init__(self, cluster: Cluster, queue: str, load: Load) -> None:
        self.failures: list[str] = []
        self._cluster, self._queue, self._load = cluster, queue, load
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Submitter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        body = {
            "queue": self._queue,
            "task": "jobs.record",
            "args": [self._load.marker, 0.3],
            "metadata": {"run": self._load.marker},
        }
        while not self._stop.wait(PAUSE_SECONDS):
            try:
                answer = self._cluster.api.request("POST", "/tasks", json=body)
            except httpx.HTTPError as error:
                self.failures.append(repr(error))
                continue
            if answer.status_code == 202:
                self._load.ids.append(answer.json()["id"])
            else:
                self.failures.append(f"{answer.status_code} {answer.text}")


def test_an_upgrade_and_its_rollback_under_load_lose_no_task_and_no_request(cluster: Cluster) -> None:
    """API and operator are replaced twice: both get a changed value, and then the one before."""
    name = cluster.apply(build_queue("upgraded", {"minReplicas": 1, "maxReplicas": 1}))
    cluster.wait_ready(name, 1)
    before, others = set(_names(cluster)), _find_others(cluster, name)
    load = Load()
    values = json.loads(json.dumps(VALUES))
    values["api"]["settings"]["retentionDays"] = 11
    values["operator"]["settings"] = {"reconcileWorkers": 6}
    revision = cluster.helm("history", RELEASE, "--max", "1", "-o", "json")
    arguments = ["upgrade", RELEASE, "charts/taskfleet", "--wait", "--timeout", "4m", "--values", "-"]
    with Submitter(cluster, name, load) as submitter:
        cluster.wait_running(load, 3)
        cluster.helm(*arguments, text=json.dumps(values))
        answered = len(load.ids)
        cluster.wait_running(load, answered + 3)  # and on with the new pods
        eventually_sync(lambda: not before & set(_names(cluster)), 60, 0.5)
        upgraded = set(_names(cluster))
        number = str(json.loads(revision)[0]["revision"])
        cluster.helm("rollback", RELEASE, number, "--wait", "--timeout", "4m")
        answered = len(load.ids)
        cluster.wait_running(load, answered + 3)
        eventually_sync(lambda: not upgraded & set(_names(cluster)), 60, 0.5)

    assert _find_others(cluster, name) == others  # for them nothing changed
    assert submitter.failures == []
    assert cluster.wait_done(load) == Counter(succeeded=len(load.ids))
    runs = cluster.read_runs(load)
    assert (len(runs.started), runs.interrupted, runs.repeated) == (len(load.ids), [], [])
    cluster.delete(name)


def _names(cluster: Cluster) -> list[str]:
    """API and operator pods."""
    return [pod["metadata"]["name"] for pod in cluster.find("pods", "app.kubernetes.io/component in (api,operator)")]


def _find_others(cluster: Cluster, queue: str) -> set[str]:
    """The uids of the servers' and the workers' pods."""
    servers = cluster.find("pods", "app.kubernetes.io/component in (rabbitmq,valkey,postgresql)")
    return {pod["metadata"]["uid"] for pod in [*servers, *cluster.pods(queue)]}
