"""Taskfleet installed by its chart in a real cluster, once per session, in a namespace that enforces restricted pods.

The cluster is that of KUBECONFIG, or the local one (`hack/local-cluster`), started and given its images where needed.
"""

import base64
import contextlib
import functools
import json
import os
import shutil
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tests.support.noted_runs import NOTES, Load, Runs
from tests.support.processes import free_port, start_process
from tests.support.task_api import OPEN_STATES, TaskApi
from tests.support.waiting import eventually_sync

__all__ = ["Cluster", "CommandError", "build_queue", "cluster", "open_cluster", "running_cluster"]

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).parent / "clusterapp"
APP_IMAGE = "docker.io/taskfleet/test-app:dev"
RELEASE = "taskfleet"
UP_SECONDS = 2400  # cold: Kubernetes is compiled
IMAGES_SECONDS = 1200
VALUES = {
    "image": {"tag": "dev"},
    "crd": {"enabled": False},
    "api": {"replicas": 1, "settings": {"references": ["000", "001", "002", "003", "004"]}},
    "operator": {"scope": "namespace", "settings": {"maxReplicas": 100}},
    "rabbitmq": {"persistence": {"size": "1Gi"}},
    "valkey": {"persistence": {"size": "1Gi"}},
    "database": {"persistence": {"size": "1Gi"}},
}
Json = dict[str, Any]


class CommandError(AssertionError):
    """A command that a test needs failed; the message holds what it said."""


def run(
    command: Sequence[str], environment: Mapping[str, str], *, text: str | None = None, timeout_seconds: float = 120
) -> str:
    """The output of a command."""
    done = subprocess.run(
        list(command),
        env=dict(environment),
        input=text,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    if done.returncode:
        raise CommandError(f"{' '.join(command)[:300]}: {done.stderr[-3000:]}{done.stdout[-1000:]}")
    return done.stdout


@functools.cache
def open_cluster() -> dict[str, str]:
    """The environment for kubectl and helm, once the cluster runs and has the images."""
    environment = {**os.environ, **({"TASKFLEET_CLUSTER": "given"} if os.environ.get("KUBECONFIG") else {})}
    provider = run(["hack/local-cluster", "provider"], environment).strip()
    if provider == "one-node" and (os.geteuid() or not shutil.which("apt-get") or not shutil.which("go")):
        pytest.skip("the one-node cluster needs root, Debian and Go; or set KUBECONFIG to a cluster with the images")
    if os.environ.get("KUBECONFIG", "").endswith("/one-node-cluster/run/admin.kubeconfig"):
        provider = "one-node"  # the same, only already started by hand
    environment["TASKFLEET_CLUSTER"] = provider
    run(["hack/local-cluster", "up"], environment, timeout_seconds=UP_SECONDS)
    printed = run(["bash", "-c", 'eval "$(hack/local-cluster env)"; env -0'], environment)
    environment |= dict(line.split("=", 1) for line in printed.split("\0") if "=" in line)
    # CLUSTER_IMAGES=keep: what the cluster has is what is tested; for the inner loop on the tests themselves.
    if provider != "given" and os.environ.get("CLUSTER_IMAGES") != "keep":
        run(["hack/images"], environment, timeout_seconds=IMAGES_SECONDS)
        build = ["hack/local-cluster", "build", APP_IMAGE, str(APP), "-f", str(APP / "Dockerfile")]
        run(build, environment, timeout_seconds=IMAGES_SECONDS)
        run(["hack/local-cluster", "load", APP_IMAGE], environment, timeout_seconds=IMAGES_SECONDS)
    return environment


def build_queue(name: str, scaling: Json | None = None, delivery: Json | None = None, **worker: Any) -> Json:
    """A TaskQueue on the test app, as a user would write it."""
    fields = {"image": APP_IMAGE, "app": "jobs:app", "concurrency": 2, "maxTaskSeconds": 120} | worker
    scale = {"minReplicas": 0, "maxReplicas": 4, "idleSeconds": 5} | (scaling or {})
    return {
        "apiVersion": "taskfleet.dev/v1alpha1",
        "kind": "TaskQueue",
        "metadata": {"name": name},
        "spec": {"worker": fields, "scaling": scale, **({"delivery": delivery} if delivery else {})},
    }


class Cluster:
    """One installation and what tests ask of it."""

    def __init__(self, environment: Mapping[str, str], namespace: str) -> None:
        self.environment = dict(environment)
        self.namespace = namespace
        self._exit = contextlib.ExitStack()

    # --- commands -----------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, text: str | None = None, timeout_seconds: float = 120) -> str:
        """One kubectl command in the namespace."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        return run(command, self.environment, text=text, timeout_seconds=timeout_seconds)

    def helm(self, *arguments: str, text: str | None = None, timeout_seconds: float = 330) -> str:
        """One helm command in the namespace."""
        command = ["helm", "--namespace", self.namespace, *arguments]
        return run(command, self.environment, text=text, timeout_seconds=timeout_seconds)

    def node(self, *arguments: str, timeout_seconds: float = 120) -> str:
        """A command to the one-node cluster itself; a test that needs it is skipped elsewhere."""
        if self.environment.get("TASKFLEET_CLUSTER") != "one-node":
            pytest.skip("kills processes of the one-node cluster")
        return run(["hack/cluster/cluster", *arguments], self.environment, timeout_seconds=timeout_seconds)

    def get(self, kind: str, name: str) -> Json:
        """An object."""
        return dict(json.loads(self.kubectl("get", kind, name, "-o", "json")))

    def find(self, kind: str, selector: str = "") -> list[Json]:
        """Objects of the namespace."""
        return list(json.loads(self.kubectl("get", kind, "-l", selector, "-o", "json"))["items"])

    def read_secret(self, name: str, key: str) -> str:
        """One value of a Secret."""
        return base64.b64decode(self.get("secret", name)["data"][key]).decode()

    # --- life ---------------------------------------------------------------------------------------------------

    def install(self, sources: Path = ROOT, **values: Any) -> None:
        """Namespace, CRD and chart of these sources; returns when everything is Ready."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "taskfleet.dev/test": "cluster"}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}
        self.kubectl("apply", "-f", "-", text=json.dumps(manifest))
        self.prepare()
        self.apply_crds(sources)
        arguments = ["upgrade", "--install", RELEASE, str(sources / "charts/taskfleet"), "--wait", "--timeout", "5m"]
        self.helm(*arguments, "--values", "-", text=json.dumps(VALUES | values))
        self.connect()

    def apply_crds(self, sources: Path = ROOT) -> None:
        """The CRDs of these sources, for the whole cluster."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(sources / "k8s/crd"))

    def prepare(self) -> None:
        """What must be in the namespace before the chart."""

    def connect(self) -> None:
        """Find the API and wait until it answers."""
        address = self._find_address()
        headers = {}
        with contextlib.suppress(CommandError):  # an installation without keys has no such Secret
            headers["Authorization"] = f"Bearer {self.read_secret(f'{RELEASE}-admin-key', 'apiKey')}"
        # A connection per request, as independent callers have: a pod that leaves may end its idle ones.
        limits = httpx.Limits(max_keepalive_connections=0)
        client = httpx.Client(base_url=address, headers=headers, timeout=65, trust_env=False, limits=limits)
        self.http = self._exit.enter_context(client)
        self.api = TaskApi(self.http)
        self.api_url = address
        eventually_sync(lambda: _answers(f"{address}/readyz"), 60, 0.3)

    def _find_address(self) -> str:
        service = self.get("service", f"{RELEASE}-api")["spec"]
        address = f"http://{service['clusterIP']}:{service['ports'][0]['port']}"
        with contextlib.suppress(AssertionError):
            eventually_sync(lambda: _answers(f"{address}/livez"), 5, 0.3)
            return address
        port = free_port()
        forward = ["kubectl", "-n", self.namespace, "port-forward", f"service/{RELEASE}-api", f"{port}:8000"]
        process = start_process(forward, env=self.environment, ready=lambda: _answers(f"http://127.0.0.1:{port}/livez"))
        self._exit.callback(process.terminate)
        return f"http://127.0.0.1:{port}"

    def close(self) -> None:
        """Close connections; the namespace stays."""
        self._exit.close()

    def log_tails(self) -> list[tuple[str, str]]:
        """For the report of a failed test: what kubectl shows."""
        tails = []
        for title, arguments in {
            "task queues and pods": ("get", "taskqueues,pods", "-o", "wide"),
            "events": ("events", "--types=Warning"),
            "log of operator": ("logs", f"deployment/{RELEASE}-operator", "--tail", "40"),
            "log of API": ("logs", f"deployment/{RELEASE}-api", "--tail", "40"),
        }.items():
            with contextlib.suppress(CommandError, subprocess.TimeoutExpired):
                tails.append((title, self.kubectl(*arguments, timeout_seconds=30)[-6000:]))
        return tails

    # --- queues -------------------------------------------------------------------------------------------------

    def apply(self, manifest: Json) -> str:
        """Apply a TaskQueue and wait until operator and API know it; returns its name."""
        self.kubectl("apply", "-f", "-", text=json.dumps(manifest))
        name = str(manifest["metadata"]["name"])
        eventually_sync(lambda: self.status(name).get("conditions"), 60, 0.3)
        queue = manifest["spec"].get("queueName", name)
        eventually_sync(lambda: self.api.request("GET", f"/queues/{queue}").status_code == 200, 60, 0.3)
        return name

    def patch(self, name: str, spec: Json) -> None:
        """Change fields of a TaskQueue's spec; null removes one."""
        self.kubectl("patch", "taskqueue", name, "--type", "merge", "-p", json.dumps({"spec": spec}))

    def delete(self, *names: str) -> None:
        """Delete TaskQueues; their workers finish what they run on their own time."""
        self.kubectl("delete", "taskqueue", *names, "--wait=false")

    def status(self, name: str) -> Json:
        """What the operator says."""
        return dict(self.get("taskqueue", name).get("status") or {})

    def condition(self, name: str, kind: str) -> Json:
        """One condition; empty when there is none."""
        return next((dict(c) for c in self.status(name).get("conditions", []) if c["type"] == kind), {})

    def pods(self, name: str) -> list[Json]:
        """The queue's worker pods that are not on their way out."""
        found = self.find("pods", f"taskfleet.dev/queue={name}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def wait_ready(self, name: str, count: int, timeout_seconds: float = 90) -> None:
        """Return once that many workers consume."""
        eventually_sync(lambda: self.status(name).get("readyReplicas", 0) == count, timeout_seconds, 0.3)

    def wait_asleep(self, name: str, timeout_seconds: float = 120) -> None:
        """Return once the queue has no pod at all, leaving ones included."""
        eventually_sync(lambda: not self.find("pods", f"taskfleet.dev/queue={name}"), timeout_seconds, 0.5)

    def events(self, name: str) -> list[Json]:
        """The events of a TaskQueue in their order."""
        selector = f"involvedObject.kind=TaskQueue,involvedObject.name={name}"
        found = json.loads(self.kubectl("get", "events", "--field-selector", selector, "-o", "json"))["items"]
        return sorted(found, key=lambda event: str(event["lastTimestamp"]))

    # --- tasks --------------------------------------------------------------------------------------------------

    def submit(self, queue: str, count: int, seconds: float, load: Load | None = None, **fields: Any) -> Load:
        """Submit that many tasks that note their runs and take `seconds` each; all are accepted. `fields` are further
        members of a submission."""
        made = load or Load()
        item = {
            "queue": queue,
            "task": "jobs.record",
            "args": [made.marker, seconds],
            "metadata": {"run": made.marker},
            **fields,
        }
        answer = self.api.request("POST", "/tasks:batch", json=[item] * count)
        assert answer.status_code == 202, (answer.status_code, answer.text[:500])
        made.ids += [entry["id"] for entry in answer.json()["items"]]
        return made

    def count_states(self, load: Load, states: Sequence[str] = ()) -> Counter[str]:
        """How many of the load's tasks are in which state."""
        found: Counter[str] = Counter()
        params: Json = {"metadata": f"run={load.marker}", "limit": 200, **({"state": list(states)} if states else {})}
        while True:
            answer = self.api.request("GET", "/tasks", params=params)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found.update(item["state"] for item in page["items"])
            if page["next_cursor"] is None:
                return found
            params["cursor"] = page["next_cursor"]

    def wait_running(self, load: Load, count: int, timeout_seconds: float = 90) -> None:
        """Return once that many tasks have begun."""
        eventually_sync(lambda: len(self.read_runs(load).started) >= count, timeout_seconds, 0.3)

    def wait_done(self, load: Load, timeout_seconds: float = 120) -> Counter[str]:
        """Wait until none of the tasks is open; the count of final states."""

        def is_settled() -> bool:
            with contextlib.suppress(httpx.HTTPError, AssertionError):
                return not self.count_states(load, OPEN_STATES)
            return False  # unknown is not "nothing open"

        eventually_sync(is_settled, timeout_seconds, 0.5)
        return self.count_states(load)

    def read_notes(self, load: Load) -> list[Json]:
        """What the tasks noted, in order: {id, pod, what: start | end, at}."""
        password = self.read_secret(f"{RELEASE}-valkey", "password")
        command = ["valkey-cli", "--no-auth-warning", "-a", password, "--raw", "LRANGE", f"{NOTES}{load.marker}"]
        printed = self.kubectl("exec", f"statefulset/{RELEASE}-valkey", "--", *command, "0", "-1")
        return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]

    def read_runs(self, load: Load) -> Runs:
        """The same, counted."""
        notes = self.read_notes(load)
        return Runs(
            Counter(note["id"] for note in notes if note["what"] == "start"),
            Counter(note["id"] for note in notes if note["what"] == "end"),
            {note["id"]: note["pod"] for note in notes},
        )

    # --- kills and networks -------------------------------------------------------------------------------------

    def kill_container(self, pod: Json) -> None:
        """kill -9 of all processes of a pod's first container, as the node's kernel does it."""
        self.node("kill", _container_id(pod))

    def find_network(self, pod: Json) -> str:
        """The path of a running pod's network namespace on this machine."""
        return self.node("network", _container_id(pod)).strip()


def _container_id(pod: Json) -> str:
    return str(pod["status"]["containerStatuses"][0]["containerID"]).removeprefix("containerd://")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=3, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


Made = TypeVar("Made", bound=Cluster)


@contextlib.contextmanager
def running_cluster(
    build: Callable[[Mapping[str, str], str], Made] = Cluster,  # type: ignore[assignment]
    sources: Path = ROOT,
    **values: Any,
) -> Iterator[Made]:
    """An installation of these sources in a namespace of its own for the length of a with block."""
    environment = open_cluster()
    made = build(environment, f"d-test-{uuid.uuid4().hex[:6]}")
    _sweep(made)
    try:
        made.install(sources, **values)
        yield made
    finally:
        made.close()
        with contextlib.suppress(CommandError, subprocess.TimeoutExpired):  # roles for users are the cluster's
            made.helm("uninstall", RELEASE, "--ignore-not-found")
        with contextlib.suppress(CommandError):
            run(["kubectl", "delete", "namespace", made.namespace, "--wait=false"], environment)


def _sweep(made: Cluster) -> None:
    """Delete what test runs left that were killed an hour ago or more."""
    found = json.loads(
        run(["kubectl", "get", "ns", "-l", "taskfleet.dev/test=cluster", "-o", "json"], made.environment)
    )
    for item in found["items"]:
        born = time.mktime(time.strptime(item["metadata"]["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ"))
        if time.mktime(time.gmtime()) - born > 3600:
            run(["kubectl", "delete", "namespace", item["metadata"]["name"], "--wait=false"], made.environment)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One installation for all tests of the session."""
    with running_cluster() as made:
        yield made
