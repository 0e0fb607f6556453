"""`helm uninstall` keeps what it says, data, generated secrets and TaskQueues with their workers, and nothing else."""

from tests.support.cluster import RELEASE, Cluster, build_queue
from tests.support.waiting import eventually_sync

KINDS = (
    "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,persistentvolumeclaims,roles,rolebindings,"
    "networkpolicies,poddisruptionbudgets,ingresses"
)
KEPT_SECRETS = {f"{RELEASE}-{name}" for name in ("admin-key", "broker", "database", "valkey")}


def test_helm_test_passes(cluster: Cluster) -> None:
    assert "Succeeded" in cluster.helm("test", RELEASE, "--timeout", "2m")


def test_an_uninstall_leaves_what_it_says_and_nothing_else(cluster: Cluster) -> None:
    name = cluster.apply(build_queue("stays", {"replicas": 1}))
    cluster.wait_ready(name, 1)
    cluster.helm("uninstall", RELEASE, "--wait", "--timeout", "4m")

    selector = f"app.kubernetes.io/instance={RELEASE}"
    left = {(item["kind"], item["metadata"]["name"]) for item in cluster.find(KINDS, selector)}
    assert {name for kind, name in left if kind == "Secret"} == KEPT_SECRETS
    assert {kind for kind, _ in left} == {"Secret", "PersistentVolumeClaim"}
    eventually_sync(lambda: not cluster.find("pods", selector), 90, 0.5)

    # The user's: the TaskQueue and its worker, which would go on as soon as Taskfleet is back.
    assert len(cluster.pods(name)) == 1
    cluster.kubectl("delete", "taskqueue", name)
    eventually_sync(lambda: not cluster.find("deployments", f"taskfleet.dev/queue={name}"), 60, 0.5)
