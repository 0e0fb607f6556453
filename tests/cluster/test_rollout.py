"""New workers replace old ones, and evicted pods leave, without a running task being thrown away."""

import json
from collections import Counter

from tests.support.cluster import Cluster, build_queue
from tests.support.waiting import eventually_sync


def test_a_rollout_under_load_interrupts_nothing_and_loses_nothing(cluster: Cluster) -> None:
    name = cluster.apply(build_queue("rollout", {"replicas": 2}, maxTaskSeconds=60))
    cluster.wait_ready(name, 2)
    before = {pod["metadata"]["name"] for pod in cluster.pods(name)}
    load = cluster.submit(name, 60, 1)
    cluster.wait_running(load, 4)

    cluster.patch(name, {"worker": {"env": [{"name": "RELEASE", "value": "second"}]}})
    eventually_sync(lambda: not before & {pod["metadata"]["name"] for pod in cluster.pods(name)}, 120, 0.5)
    cluster.submit(name, 10, 1, load)
    assert cluster.wait_done(load) == Counter(succeeded=70)
    runs = cluster.read_runs(load)
    assert (len(runs.started), runs.interrupted, runs.repeated) == (70, [], [])
    assert before < set(runs.pods.values())  # old and new ones worked on it
    assert cluster.api.run(name, "jobs.variable", "RELEASE", wait_seconds=60)["result"] == "second"
    cluster.delete(name)


def test_an_evicted_pod_finishes_what_it_runs(cluster: Cluster) -> None:
    """What `kubectl drain` does to each pod of a node."""
    name = cluster.apply(build_queue("drained", {"replicas": 1}, concurrency=1, maxTaskSeconds=60))
    cluster.wait_ready(name, 1)
    load = cluster.submit(name, 2, 8)
    cluster.wait_running(load, 1)
    (pod,) = cluster.pods(name)
    victim = pod["metadata"]["name"]

    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": victim}}
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{victim}/eviction"
    cluster.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(eviction))
    assert cluster.wait_done(load) == Counter(succeeded=2)
    runs = cluster.read_runs(load)
    assert (len(runs.started), runs.interrupted, runs.repeated) == (2, [], [])
    assert victim in runs.pods.values()
    assert len(set(runs.pods.values())) == 2  # the second task waited for the pod's successor
    cluster.delete(name)
