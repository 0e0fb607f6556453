"""Parts are killed while tasks run: all comes back by itself, nothing is lost, and what is wrong is said."""

import json
from collections import Counter

from tests.support.cluster import RELEASE, Cluster, build_queue
from tests.support.waiting import eventually_sync


def test_a_killed_worker_costs_a_second_run_of_what_it_ran(cluster: Cluster) -> None:
    name = cluster.apply(build_queue("worker-killed", {"replicas": 1}, maxTaskSeconds=60))
    cluster.wait_ready(name, 1)
    load = cluster.submit(name, 6, 4)
    cluster.wait_running(load, 2)

    cluster.kill_container(cluster.pods(name)[0])
    assert cluster.wait_done(load) == Counter(succeeded=6)
    runs = cluster.read_runs(load)
    assert len(runs.started) == 6
    assert set(runs.repeated) == set(runs.interrupted)
    cluster.delete(name)


def test_the_operator_killed_amid_scaling_goes_on_where_it_stood(cluster: Cluster) -> None:
    name = cluster.apply(build_queue("operator-killed"))
    load = cluster.submit(name, 60, 1)
    eventually_sync(lambda: cluster.pods(name), 60, 0.1)
    (operator,) = cluster.find("pods", "app.kubernetes.io/component=operator")
    restarts = operator["status"]["containerStatuses"][0]["restartCount"]

    cluster.kill_container(operator)
    assert cluster.wait_done(load) == Counter(succeeded=60)
    cluster.wait_asleep(name)
    (operator,) = cluster.find("pods", "app.kubernetes.io/component=operator")
    assert operator["status"]["containerStatuses"][0]["restartCount"] == restarts + 1
    runs = cluster.read_runs(load)
    assert (len(runs.started), runs.interrupted, runs.repeated) == (60, [], [])
    cluster.delete(name)


def test_a_rabbitmq_pod_that_is_deleted_loses_no_message(cluster: Cluster) -> None:
    name = cluster.apply(build_queue("broker-deleted"))
    load = cluster.submit(name, 80, 0.5)
    cluster.wait_running(load, 5)

    cluster.kubectl("delete", "pod", f"{RELEASE}-rabbitmq-0", "--wait=false")
    cluster.submit(name, 20, 0.5, load)  # accepted while the broker is away
    assert cluster.wait_done(load, 240) == Counter(succeeded=100)
    assert len(cluster.read_runs(load).started) == 100
    cluster.wait_asleep(name)
    cluster.delete(name)


def test_work_goes_on_while_the_kubernetes_api_is_down_and_scaling_when_it_is_back(cluster: Cluster) -> None:
    name = cluster.apply(build_queue("kubernetes-down"))
    load = cluster.submit(name, 20, 0.5)
    cluster.wait_running(load, 1)

    cluster.node("kill", "kube-apiserver")
    try:
        cluster.submit(name, 20, 0.5, load)
        assert cluster.wait_done(load) == Counter(succeeded=40)  # the pods that are there go on
    finally:
        cluster.node("up")
    later = cluster.submit(name, 20, 0.5)
    assert cluster.wait_done(later) == Counter(succeeded=20)
    cluster.wait_asleep(name)
    for each in (load, later):
        runs = cluster.read_runs(each)
        assert (runs.interrupted, runs.repeated) == ([], [])
    cluster.delete(name)


def test_an_image_that_cannot_be_pulled_is_a_condition_that_names_it(cluster: Cluster) -> None:
    right = build_queue("no-image", {"replicas": 1})
    wrong = json.loads(json.dumps(right))
    wrong["spec"]["worker"]["image"] = "registry.invalid/nobody/nothing:1"
    name = cluster.apply(wrong)
    eventually_sync(lambda: cluster.condition(name, "WorkersHealthy").get("reason") == "ImagePullFailed", 90, 0.5)
    message = cluster.condition(name, "WorkersHealthy")["message"]
    assert "registry.invalid/nobody/nothing:1" in message
    assert "imagePullSecrets" in message or "spec.worker.image" in message  # what to do about it

    cluster.patch(name, {"worker": {"image": right["spec"]["worker"]["image"]}})
    load = cluster.submit(name, 2, 0.1)
    assert cluster.wait_done(load) == Counter(succeeded=2)
    eventually_sync(lambda: cluster.condition(name, "WorkersHealthy").get("status") == "True", 60, 0.5)
    cluster.delete(name)
