"""Every pod says what it needs, may no more than that, and leaves without losing anything."""

from typing import Any

import pytest
from tests.support.chart import Rendered, build_pods, load_all_options, render_chart

EVERYTHING: dict[str, Any] = {
    "flower": {"enabled": True},
    "rabbitmq": {"replicas": 3},
    "valkey": {"persistence": {"enabled": False}},
}


@pytest.fixture(params=["defaults", "everything", "all options"])
def rendered(request: pytest.FixtureRequest) -> Rendered:
    """Renderings that have every workload between them."""
    values = {"defaults": {}, "everything": EVERYTHING, "all options": load_all_options()}
    return render_chart(values[request.param])


def test_every_container_has_a_read_only_root_and_says_what_it_needs(rendered: Rendered) -> None:
    pods = list(build_pods(rendered))
    assert len(pods) >= 6
    for name, pod in pods:
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name


def test_who_asks_kubernetes_has_a_token_and_no_pod_gets_variables_of_services(rendered: Rendered) -> None:
    """A variable such as TASKFLEET_API_PORT=tcp://... would be refused as an unknown setting."""
    for name, pod in build_pods(rendered):
        assert pod["spec"]["enableServiceLinks"] is False, name
        environment = {item["name"] for item in pod["spec"]["containers"][0].get("env", ())}
        asks = name.endswith("-operator") or "TASKFLEET_API_KUBERNETES_AUTH" in environment
        assert pod["spec"]["automountServiceAccountToken"] is asks, name


def test_every_server_has_probes(rendered: Rendered) -> None:
    for name, pod in build_pods(rendered):
        if name.startswith("Pod/"):
            continue
        (container,) = pod["spec"]["containers"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), name


def test_the_api_leaves_without_losing_a_request() -> None:
    """The new pod is ready first, and the old one goes on until nothing is sent to it any more."""
    values = {"api": {"drainSeconds": 7, "settings": {"shutdownTimeoutSeconds": 40}}}
    spec = render_chart(values).get("Deployment", "taskfleet-api")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    (container,) = spec["template"]["spec"]["containers"]
    assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": 7}}
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 7 + 40


def test_the_schema_is_migrated_before_the_api_serves() -> None:
    pod = render_chart().get("Deployment", "taskfleet-api")["spec"]["template"]["spec"]
    (migration,), (server,) = pod["initContainers"], pod["containers"]
    assert migration["args"] == ["taskfleet_api.migrate"]
    assert migration["image"] == server["image"]
    assert migration["env"] == server["env"]


def test_an_autoscaled_api_leaves_its_replicas_to_the_autoscaler() -> None:
    assert (
        "replicas"
        not in render_chart({"api": {"autoscaling": {"enabled": True}}}).get("Deployment", "taskfleet-api")["spec"]
    )


def test_every_network_policy_lets_in_who_needs_it() -> None:
    rendered = render_chart({"flower": {"enabled": True}, "rabbitmq": {"replicas": 3}})
    callers = {
        (policy["metadata"]["name"].removeprefix("taskfleet-"), port["port"]): {
            peer["podSelector"]["matchLabels"].get("app.kubernetes.io/component", "workers")
            for peer in rule.get("from", [])
            if "podSelector" in peer
        }
        for policy in rendered.find("NetworkPolicy")
        for rule in policy["spec"]["ingress"]
        for port in rule["ports"]
    }
    assert callers["rabbitmq", "amqp"] == {"api", "operator", "flower", "workers"}
    assert callers["rabbitmq", "management"] == {"api", "operator", "flower"}
    assert callers["rabbitmq", "distribution"] == {"rabbitmq"}
    assert callers["valkey", "valkey"] == {"api", "operator", "workers"}
    assert callers["postgresql", "postgresql"] == {"api"}
    assert callers["operator", "metrics"] == {"test"}  # and whom metricsFrom names
    assert callers["api", "http"] == set()  # everybody


def test_three_nodes_know_one_another_and_are_all_asked_for_figures() -> None:
    rendered = render_chart({"rabbitmq": {"replicas": 3}})
    config = rendered.get("ConfigMap", "taskfleet-rabbitmq")["data"]["rabbitmq.conf"]
    for ordinal in range(3):
        host = f"taskfleet-rabbitmq-{ordinal}.taskfleet-rabbitmq-nodes.shop"
        assert f"classic_config.nodes.{ordinal + 1} = rabbit@{host}\n" in config
        urls = rendered.get("Secret", "taskfleet-broker")["stringData"]["metricsUrl"].split(",")
        assert urls[ordinal] == f"http://{host}.svc:15692"


def test_the_broker_tells_its_figures_each_second() -> None:
    data = render_chart().get("ConfigMap", "taskfleet-rabbitmq")["data"]
    assert "{collect_statistics_interval, 1000}" in data["advanced.config"]
    assert "{quorum_tick_interval, 1000}" in data["advanced.config"]
    assert "rabbitmq_prometheus" in data["enabled_plugins"]


@pytest.mark.parametrize(
    ("limit", "size"), [("1Gi", 1 << 30), ("1500Mi", 1500 << 20), ("2G", 2 * 10**9), (3000000, 3000000)]
)
def test_the_broker_knows_its_memory_limit(limit: str | int, size: int) -> None:
    """It would block publishers by the node's memory, long after it was killed for its own."""
    rendered = render_chart({"rabbitmq": {"resources": {"limits": {"memory": limit}}}})
    config = rendered.get("ConfigMap", "taskfleet-rabbitmq")["data"]["rabbitmq.conf"]
    assert f"total_memory_available_override_value = {size}\n" in config
