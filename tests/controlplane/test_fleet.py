"""TaskQueuePolicies at a real API server, and the operator that holds to them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.controlplane.operators import OperatorProcess, get_condition
from tests.controlplane.rights import bind_rights
from tests.controlplane.samples import API, build_task_queue, create, merge, queue_path
from tests.support.brokers import Valkey
from tests.support.controlplane import ApiError, ControlPlane
from tests.support.waiting import eventually_sync

MERGE = "application/merge-patch+json"
SECONDS = 40


def policy_path(namespace: str, name: str = "", subresource: str = "") -> str:
    """URL path of TaskQueuePolicies, one of them, or its subresource."""
    path = f"/apis/{API}/namespaces/{namespace}/taskqueuepolicies"
    return "/".join([path, *(part for part in (name, subresource) if part)])


def build_policy(namespace: str, name: str = "shared", **spec: Any) -> dict[str, Any]:
    """A policy of ten pods; `spec` is merged into its spec."""
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": API,
        "kind": "TaskQueuePolicy",
        "metadata": metadata,
        "spec": merge({"maxReplicas": 10}, spec),
    }


def put(plane: ControlPlane, policy: dict[str, Any], query: str = "") -> dict[str, Any]:
    """Create a policy."""
    return plane.request("POST", policy_path(policy["metadata"]["namespace"]) + query, policy)


# -- the CRD -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="smallest"),
        pytest.param({"maxReplicas": 0}, id="nothing may run"),
        pytest.param({"selector": {"matchLabels": {"team": "a"}}}, id="labels"),
        pytest.param({"selector": {"matchExpressions": [{"key": "t", "operator": "In", "values": ["a"]}]}}, id="in"),
        pytest.param({"selector": {"matchExpressions": [{"key": "t", "operator": "Exists"}]}}, id="exists"),
    ],
)
def test_a_sound_policy_is_taken(control_plane: ControlPlane, namespace: str, spec: dict[str, Any]) -> None:
    put(control_plane, build_policy(namespace, **spec), "?dryRun=All&fieldValidation=Strict")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        pytest.param({"maxReplicas": -1}, "should be greater than or equal to 0", id="below zero"),
        pytest.param({"maxReplicas": None}, "Required value", id="no limit"),
        pytest.param({"maxReplicas": "10"}, "must be of type integer", id="text"),
        pytest.param(
            {"selector": {"matchExpressions": [{"key": "t", "operator": "In"}]}}, "In and NotIn need values", id="in"
        ),
        pytest.param(
            {"selector": {"matchExpressions": [{"key": "t", "operator": "Exists", "values": ["a"]}]}},
            "In and NotIn need values",
            id="exists",
        ),
        pytest.param(
            {"selector": {"matchExpressions": [{"key": "t", "operator": "Like"}]}}, "Unsupported value", id="operator"
        ),
        pytest.param({"selector": {"matchLabels": {"a": 1}}}, "must be of type string", id="label"),
    ],
)
def test_a_faulty_policy_is_refused_with_the_fix(
    control_plane: ControlPlane, namespace: str, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(ApiError) as refusal:
        put(control_plane, build_policy(namespace, **spec), "?dryRun=All")
    assert refusal.value.status == 422
    assert words in json.loads(str(refusal.value).split(": ", 1)[1])["message"]


# -- the operator ------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(control_plane: ControlPlane) -> str:
    """A namespace of the test's own."""
    return control_plane.make_namespace("fleet")


@pytest.fixture
def fleet(control_plane: ControlPlane, valkey: Valkey, site: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    """An operator of that namespace with the rights that the chart gives it."""
    kubeconfig = bind_rights(control_plane, site)
    process = OperatorProcess(control_plane, valkey, tmp_path, site, site, kubeconfig, lease_seconds=60).start()
    yield process
    process.kill()


def flood(plane: ControlPlane, valkey: Valkey, namespace: str, name: str, **scaling: Any) -> None:
    """A TaskQueue with work for a hundred pods."""
    create(plane, build_task_queue(namespace, name, scaling={"maxReplicas": 100, **scaling}))
    valkey.command("LPUSH", name, *["{}"] * 2000)


def get_replicas(plane: ControlPlane, namespace: str) -> dict[str, int]:
    """What each Deployment was asked for."""
    items = plane.request("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments")["items"]
    return {item["metadata"]["name"].removesuffix("-worker"): item["spec"]["replicas"] for item in items}


def await_replicas(plane: ControlPlane, namespace: str, expected: dict[str, int]) -> None:
    """Wait until the Deployments are asked for exactly this."""
    seen: dict[str, int] = {}

    def is_there() -> bool:
        seen.clear()
        seen.update(get_replicas(plane, namespace))
        assert seen == expected
        return True

    eventually_sync(is_there, SECONDS)


def get_status(plane: ControlPlane, namespace: str, name: str = "shared") -> dict[str, Any]:
    """The status of a policy."""
    return plane.request("GET", policy_path(namespace, name)).get("status", {})


@pytest.mark.usefixtures("fleet")
def test_two_floods_share_a_limit_and_a_third_queue_gets_its_pods(
    control_plane: ControlPlane, valkey: Valkey, site: str
) -> None:
    """Fair, never above the limit, told in status, condition and columns; without the policy the cap is gone."""
    put(control_plane, build_policy(site))
    flood(control_plane, valkey, site, f"{site}-a")
    flood(control_plane, valkey, site, f"{site}-b")
    await_replicas(control_plane, site, {f"{site}-a": 5, f"{site}-b": 5})
    create(control_plane, build_task_queue(site, f"{site}-mail", scaling={"maxReplicas": 100}))
    valkey.command("LPUSH", f"{site}-mail", "{}")
    # There are no pods here that would have to go first: what the floods give back is free at once.
    first, second = f"{site}-a", f"{site}-b"

    def find_shares() -> dict[str, int] | None:
        got = get_replicas(control_plane, site)
        return got if sorted(got.values()) == [1, 4, 5] and got.get(f"{site}-mail") == 1 else None

    shares = eventually_sync(find_shares, SECONDS)
    more, less = (
        (first, second) if shares[first] > shares[second] else (second, first)
    )  # who wanted pods first has more

    def find_limit() -> dict[str, Any] | None:
        condition = get_condition(control_plane, site, less, "ScalingLimited")
        return condition if f"{more} holds 5" in condition.get("message", "") else None

    condition = eventually_sync(find_limit, SECONDS)
    assert (condition["status"], condition["reason"]) == ("True", "FleetLimit")
    assert condition["message"].startswith("TaskQueuePolicy shared with its 10 pods allows 4 of 100 replicas: ")
    status = eventually_sync(
        lambda: (got := get_status(control_plane, site)).get("queues") == 3 and got["used"] == 10 and got, SECONDS
    )
    assert (status["limit"], status["observedGeneration"]) == (10, 1)
    assert {item["type"]: item["reason"] for item in status["conditions"]} == {
        "Ready": "Applied",
        "Limiting": "LimitReached",
    }
    columns = control_plane.kubectl("get", "tqp", "-n", site).splitlines()
    assert columns[0].split() == ["NAME", "LIMIT", "USED", "WANTED", "QUEUES", "AGE"]
    assert columns[1].split()[:3] == ["shared", "10", "10"]
    control_plane.request("PATCH", policy_path(site, "shared"), {"spec": {"maxReplicas": 6}}, MERGE)
    eventually_sync(lambda: sum(get_replicas(control_plane, site).values()) == 6, SECONDS)
    control_plane.request("DELETE", policy_path(site, "shared"))
    await_replicas(control_plane, site, {f"{site}-a": 100, f"{site}-b": 100, f"{site}-mail": 1})


@pytest.mark.usefixtures("fleet")
def test_priority_minimum_pin_and_selector(control_plane: ControlPlane, valkey: Valkey, site: str) -> None:
    """Minimums first, then by priority; a pin counts; a queue that no policy selects has what it wants."""
    low, high, free = f"{site}-low", f"{site}-high", f"{site}-free"
    tiers = [{"key": "tier", "operator": "Exists"}]
    put(control_plane, build_policy(site, selector={"matchExpressions": tiers}))
    for name, scaling in ((low, {"minReplicas": 2}), (high, {"priority": 5}), (free, {})):
        queue = build_task_queue(site, name, scaling={"maxReplicas": 100, **scaling})
        queue["metadata"]["labels"] = {} if name == free else {"tier": "any"}
        create(control_plane, queue)
        valkey.command("LPUSH", name, *["{}"] * 2000)
    await_replicas(control_plane, site, {low: 2, high: 8, free: 100})
    control_plane.kubectl("scale", f"tq/{low}", "-n", site, "--replicas=4")
    await_replicas(control_plane, site, {low: 4, high: 6, free: 100})
    control_plane.kubectl("label", f"tq/{high}", "-n", site, "tier-")
    await_replicas(control_plane, site, {low: 4, high: 100, free: 100})


def test_the_operators_own_limit_is_shared_between_namespaces(
    control_plane: ControlPlane, valkey: Valkey, tmp_path: Path
) -> None:
    """Two queues of one namespace have together what one of another has; a restart changes nothing."""
    control_plane.kubectl("delete", "tq", "--all", "--all-namespaces")  # what other tests left would have its share
    big, small = control_plane.make_namespace("big"), control_plane.make_namespace("small")
    kubeconfig = bind_rights(control_plane, big, cluster_wide=True)
    limit = {"TASKFLEET_OPERATOR_MAX_REPLICAS": "12"}
    process = OperatorProcess(
        control_plane, valkey, tmp_path, None, big, kubeconfig, lease_seconds=60, environment=limit
    ).start()
    expected = {f"{big}-a": 3, f"{big}-b": 3, f"{small}-a": 6}
    try:
        for namespace, name in ((big, f"{big}-a"), (big, f"{big}-b"), (small, f"{small}-a")):
            flood(control_plane, valkey, namespace, name)

        def read() -> dict[str, int]:
            return get_replicas(control_plane, big) | get_replicas(control_plane, small)

        eventually_sync(lambda: read() == expected, SECONDS)
        assert process.stop() == 0
        process.start()
        seen = []
        for name in (f"{big}-a", f"{small}-a"):
            namespace = big if name.startswith(big) else small
            control_plane.request(
                "PATCH", queue_path(namespace, name), {"spec": {"scaling": {"idleSeconds": 61}}}, MERGE
            )
        eventually_sync(lambda: seen.append(read()) or len(seen) > 150, SECONDS)
        assert all(each == expected for each in seen)
    finally:
        process.kill()
        for namespace in (big, small):
            control_plane.kubectl("delete", "tq", "--all", "-n", namespace)
