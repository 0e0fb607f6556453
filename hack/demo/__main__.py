"""`make demo`: 500 tasks for a queue that has no pods; shows workers come, do them and go. Exit code 0 when all did.

Needs a cluster with Taskfleet (`make cluster-up images deploy`), kubectl on PATH, and nothing else.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from taskfleet import Client, TaskfleetError
from taskfleet.forwarding import forward_api

TASKS = 500
TASK_SECONDS = 1.0
QUEUE = "demo"
LIMIT_SECONDS = 240
QUIET_SECONDS = 3.0
OPEN_STATES = ("scheduled", "pending", "queued", "running", "retrying")
NAMESPACE = os.environ.get("NAMESPACE", "taskfleet")
QUEUE_NAMESPACE = os.environ.get("QUEUE_NAMESPACE", "default")


def kubectl(*arguments: str) -> str:
    """The output of one kubectl command; SystemExit with its words when it fails."""
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise SystemExit(f"kubectl {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def fetch_status() -> dict[str, Any]:
    """What the operator says about the queue."""
    return dict(json.loads(kubectl("-n", QUEUE_NAMESPACE, "get", "taskqueue", QUEUE, "-o", "json")).get("status") or {})


class Timeline:
    """Prints a line when the pods changed, and every few seconds otherwise."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._last: tuple[int, ...] = ()
        self._shown_at = 0.0
        self.peak = 0
        print(f"{'seconds':>8} {'waiting':>8} {'running':>8} {'done':>6}   workers", flush=True)

    def note(self, text: str) -> None:
        """One line of words."""
        print(f"{time.monotonic() - self.began:8.1f}   {text}", flush=True)

    def show(self, status: dict[str, Any], done: int) -> None:
        """One line of figures, if it is time for one."""
        messages = status.get("messages") or {}
        wanted, ready = status.get("desiredReplicas", 0), status.get("readyReplicas", 0)
        pods = status.get("replicas", 0)
        waiting, running = messages.get("ready", 0), messages.get("unacknowledged", 0)
        self.peak = max(self.peak, ready)
        at = time.monotonic() - self.began
        pods_changed = (wanted, ready, pods) != self._last
        if not pods_changed and at - self._shown_at < QUIET_SECONDS:
            return
        self._last, self._shown_at = (wanted, ready, pods), at
        dots = "#" * ready + "+" * max(0, pods - ready)
        bar = f"{dots:<6} {ready} ready, {wanted} wanted"
        print(f"{at:8.1f} {waiting:8d} {running:8d} {done:6d}   {bar}", flush=True)


def ensure_queue(client: Client) -> None:
    """Apply the sample and wait until the operator and the API know it and nothing is left of an earlier run."""
    manifest = Path(__file__).parent / "taskqueue.yaml"
    print(f"$ kubectl apply -f {os.path.relpath(manifest)}")
    print(kubectl("-n", QUEUE_NAMESPACE, "apply", "-f", str(manifest)).strip())
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        status = fetch_status()
        known = any(queue.name == QUEUE for queue in client.queues())
        ready = {item["status"] for item in status.get("conditions", []) if item["type"] == "Ready"}
        if known and ready == {"True"} and not status.get("replicas") and count_done(client) == TASKS:
            return
        time.sleep(0.3)
    raise SystemExit(f"the operator did not take the TaskQueue up: kubectl describe taskqueue {QUEUE}")


def watch_until(timeline: Timeline, client: Client, until_idle: bool) -> int:
    """Show figures until all tasks are done, or until no pod is left; returns the number of tasks done."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        status = fetch_status()
        done = count_done(client)
        timeline.show(status, done)
        if done >= TASKS and (not until_idle or not status.get("replicas")):
            return done
        time.sleep(0.5)
    raise SystemExit(f"not finished after {LIMIT_SECONDS} s: kubectl describe taskqueue {QUEUE}")


def count_done(client: Client) -> int:
    """Tasks that have come to their end: all but those that the API counts as open."""
    records = client.queue(QUEUE).records
    return TASKS - sum(records.get(state, 0) for state in OPEN_STATES) if records is not None else 0


def main() -> int:
    """Run the demonstration."""
    with forward_api(NAMESPACE) as address, Client(address.url, api_key=address.key) as client:
        ensure_queue(client)
        print(f"\nsubmitting {TASKS} tasks of {TASK_SECONDS:g} s each to {QUEUE}, which has no pods\n")
        timeline = Timeline()
        body = {"queue": QUEUE, "task": "hello.sleep", "kwargs": {"seconds": TASK_SECONDS, "steps": 1}}
        refused = [item for item in client.submit_many([body] * TASKS) if isinstance(item, Exception)]
        if refused:
            raise SystemExit(f"{len(refused)} tasks were refused: {refused[0]}")
        timeline.note(f"all {TASKS} accepted: their records are committed")
        done = watch_until(timeline, client, until_idle=False)
        timeline.note(f"all {done} done; nothing to do from now on")
        watch_until(timeline, client, until_idle=True)
        timeline.note("no pods, no cost")
    print(f"\nreplicas went 0 -> {timeline.peak} -> 0; the operator's reasons:\n")
    print(kubectl("-n", QUEUE_NAMESPACE, "events", "--for", f"taskqueue/{QUEUE}").strip())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TaskfleetError as error:
        sys.exit(str(error))
