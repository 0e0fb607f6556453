"""Kills amid work on the cluster, each with its timeline; what is lost or cut off is counted."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.support.cluster import RELEASE, Cluster, CommandError, Load, build_queue

from benchmarks.figures import say

__all__ = ["FAULTS", "run_faults"]

TASKS = 120
TASK_SECONDS = 1.0
API_DOWN_SECONDS = 30
SETTLE_SECONDS = 300
HEAD = (
    "| Fault | Accepted | Final states | Lost | Runs cut off and repeated | Seconds until all was done |\n"
    "|---|--:|---|--:|--:|--:|"
)


class Timeline:
    """Prints what changes of one queue, with the seconds since the start."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        self._stop = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def note(self, text: str) -> None:
        """One line."""
        say(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def _run(self) -> None:
        last = ""
        while not self._stop.wait(0.7):
            try:
                status = self._cluster.status(self._name)
            except CommandError:
                text = "the Kubernetes API does not answer"
            else:
                counts = status.get("messages", {})
                pods = (status.get(key, 0) for key in ("desiredReplicas", "replicas", "readyReplicas"))
                text = f"waiting {counts.get('ready', '?')}, in hand {counts.get('unacknowledged', '?')}; "
                text += "pods wanted {}, there {}, consuming {}".format(*pods)
            if text != last:
                last = text
                self.note(text)

    def __enter__(self) -> "Timeline":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)


def kill_operator(cluster: Cluster, timeline: Timeline, name: str) -> None:
    """kill -9 of the operator's process; its Deployment starts it again."""
    (pod,) = cluster.find("pods", "app.kubernetes.io/component=operator")
    cluster.kill_container(pod)
    timeline.note("operator killed (kill -9)")


def stop_kubernetes_api(cluster: Cluster, timeline: Timeline, name: str) -> None:
    """The API server is gone for half a minute."""
    cluster.node("kill", "kube-apiserver")
    timeline.note("kube-apiserver killed (kill -9)")
    time.sleep(API_DOWN_SECONDS)  # the outage itself
    cluster.node("up")
    timeline.note("kube-apiserver is up again")


def delete_broker_pod(cluster: Cluster, timeline: Timeline, name: str) -> None:
    """RabbitMQ stops and starts on its volume."""
    cluster.kubectl("delete", "pod", f"{RELEASE}-rabbitmq-0", "--wait=false")
    timeline.note("RabbitMQ pod deleted")


def kill_worker(cluster: Cluster, timeline: Timeline, name: str) -> None:
    """kill -9 of every process of one worker pod."""
    cluster.kill_container(cluster.pods(name)[0])
    timeline.note("a worker killed (kill -9)")


FAULTS: dict[str, Callable[[Cluster, Timeline, str], None]] = {
    "operator killed": kill_operator,
    "Kubernetes API down for 30 s": stop_kubernetes_api,
    "RabbitMQ pod deleted": delete_broker_pod,
    "worker killed": kill_worker,
}


@contextmanager
def _queue(cluster: Cluster, number: int) -> Iterator[str]:
    name = cluster.apply(build_queue(f"bench-fault-{number}", concurrency=4, maxTaskSeconds=60))
    try:
        yield name
    finally:
        with suppress(CommandError):
            cluster.delete(name)


def run_faults(cluster: Cluster) -> tuple[str, bool]:
    """Every fault on a queue of its own; a table, and whether nothing was lost."""
    rows, is_whole = [HEAD], True
    for number, (title, strike) in enumerate(FAULTS.items()):
        with _queue(cluster, number) as name:
            say(f"{title}: {TASKS} tasks of {TASK_SECONDS:g} s")
            began = time.monotonic()
            with Timeline(cluster, name) as timeline:
                load = cluster.submit(name, TASKS, TASK_SECONDS, Load())
                timeline.note(f"{TASKS} tasks accepted")
                cluster.wait_running(load, 4)
                strike(cluster, timeline, name)
                states = cluster.wait_done(load, SETTLE_SECONDS)
                seconds = time.monotonic() - began
                timeline.note("all done")
                cluster.wait_asleep(name, SETTLE_SECONDS)
                timeline.note("no pods")
            runs = cluster.read_runs(load)
            lost = TASKS - states["succeeded"]
            is_whole = is_whole and not lost
            named = ", ".join(f"{count} {state}" for state, count in states.items())
            rows.append(f"| {title} | {TASKS} | {named} | {lost} | {len(runs.interrupted)} | {seconds:.0f} |")
    return "\n".join(rows), is_whole
