"""Replicas follow the work: from none for a burst, back to none, and never at the price of a running task."""

from collections import Counter

from tests.support.cluster import Cluster, build_queue
from tests.support.waiting import eventually_sync


def test_a_burst_wakes_a_sleeping_queue_which_then_goes_to_sleep_again(cluster: Cluster) -> None:
    """200 tasks of half a second for a queue without pods: all are done, and no pod is left after idleSeconds."""
    name = cluster.apply(build_queue("burst", concurrency=8))
    assert cluster.pods(name) == []
    load = cluster.submit(name, 200, 0.5)

    assert cluster.wait_done(load) == Counter(succeeded=200)
    cluster.wait_asleep(name)
    runs = cluster.read_runs(load)
    assert (len(runs.started), runs.interrupted, runs.repeated) == (200, [], [])
    reasons = [event["reason"] for event in cluster.events(name)]
    assert "ScaledUp" in reasons
    assert "ScaledDown" in reasons
    assert cluster.status(name)["replicas"] == 0
    cluster.delete(name)


def test_scaling_in_takes_the_idle_pods_and_no_running_task(cluster: Cluster) -> None:
    """Four pods, two of them at work; two must go: the idle ones do, and each task runs once, to its end."""
    name = cluster.apply(build_queue("scale-in", {"maxReplicas": 4, "replicas": 4}, concurrency=1, maxTaskSeconds=60))
    cluster.wait_ready(name, 4)
    load = cluster.submit(name, 2, 15)
    cluster.wait_running(load, 2)

    cluster.kubectl("scale", f"taskqueue/{name}", "--replicas=2")
    eventually_sync(lambda: len(cluster.pods(name)) == 2, 60, 0.3)
    runs = cluster.read_runs(load)
    left = {pod["metadata"]["name"] for pod in cluster.pods(name)}
    assert set(runs.pods.values()) == left
    assert cluster.wait_done(load) == Counter(succeeded=2)
    runs = cluster.read_runs(load)
    assert (runs.interrupted, runs.repeated) == ([], [])

    # Unpinned again, the rule finds nothing to do.
    cluster.patch(name, {"scaling": {"replicas": None}})
    cluster.wait_asleep(name)
    cluster.delete(name)


def test_a_paused_queue_keeps_its_replicas_until_it_goes_on(cluster: Cluster) -> None:
    name = cluster.apply(build_queue("paused"))
    cluster.kubectl("annotate", "taskqueue", name, "taskfleet.dev/paused=true")
    eventually_sync(lambda: cluster.condition(name, "ScalingActive").get("reason") == "Paused", 30, 0.3)
    load = cluster.submit(name, 2, 0.1)
    eventually_sync(lambda: cluster.status(name)["messages"].get("ready") == 2, 60, 0.3)
    assert cluster.pods(name) == []

    cluster.kubectl("annotate", "taskqueue", name, "taskfleet.dev/paused-")
    assert cluster.wait_done(load) == Counter(succeeded=2)
    cluster.delete(name)
