"""Which objects the chart makes: exactly these by default, and nothing of what is switched off."""

from typing import Any

import pytest
from tests.support.chart import CHART, find_pod_template, render_chart

ACCOUNTS = {("ServiceAccount", f"taskfleet-{name}") for name in ("api", "operator", "rabbitmq", "valkey", "postgresql")}
POLICIES = {("NetworkPolicy", f"taskfleet-{name}") for name in ("api", "operator", "rabbitmq", "valkey", "postgresql")}
SERVICES = {
    ("Service", f"taskfleet-{name}")
    for name in ("api", "operator", "rabbitmq", "rabbitmq-nodes", "valkey", "postgresql")
}
CRDS = {
    ("CustomResourceDefinition", "taskqueues.taskfleet.dev"),
    ("CustomResourceDefinition", "taskqueuepolicies.taskfleet.dev"),
}
DEFAULTS = {
    ("Deployment", "taskfleet-api"),
    ("Deployment", "taskfleet-operator"),
    ("StatefulSet", "taskfleet-rabbitmq"),
    ("StatefulSet", "taskfleet-valkey"),
    ("StatefulSet", "taskfleet-postgresql"),
    ("Secret", "taskfleet-admin-key"),
    ("Secret", "taskfleet-broker"),
    ("Secret", "taskfleet-valkey"),
    ("Secret", "taskfleet-database"),
    ("ConfigMap", "taskfleet-rabbitmq"),
    ("ConfigMap", "taskfleet-valkey"),
    ("PodDisruptionBudget", "taskfleet-api"),
    ("ClusterRole", "shop-taskfleet-operator"),
    ("ClusterRoleBinding", "shop-taskfleet-operator"),
    ("ClusterRole", "shop-taskfleet-taskqueue-viewer"),
    ("ClusterRole", "shop-taskfleet-taskqueue-editor"),
    ("Lease", "taskfleet-operator"),
    ("Role", "taskfleet-operator-lease"),
    ("RoleBinding", "taskfleet-operator-lease"),
    *CRDS,
    ("Pod", "taskfleet-test"),
    *ACCOUNTS,
    *POLICIES,
    *SERVICES,
}
OF_OPERATOR = {item for item in DEFAULTS if "operator" in item[1]}
OF_RABBITMQ = {item for item in DEFAULTS if "rabbitmq" in item[1]} | {("Secret", "taskfleet-broker")}
OF_VALKEY = {item for item in DEFAULTS if item[1] == "taskfleet-valkey"}
OF_DATABASE = {item for item in DEFAULTS if "postgresql" in item[1]} | {("Secret", "taskfleet-database")}
USER_ROLES = {item for item in DEFAULTS if "taskqueue-" in item[1]}


def test_defaults_are_exactly_these() -> None:
    assert render_chart().names == DEFAULTS


@pytest.mark.parametrize(
    ("values", "gone"),
    [
        pytest.param({"operator": {"enabled": False}}, OF_OPERATOR, id="operator"),
        pytest.param({"crd": {"enabled": False}}, CRDS, id="crd"),
        pytest.param({"rabbitmq": {"enabled": False, "existingSecret": "mine"}}, OF_RABBITMQ, id="rabbitmq"),
        pytest.param({"valkey": {"enabled": False, "existingSecret": "mine"}}, OF_VALKEY, id="valkey"),
        pytest.param({"database": {"enabled": False, "existingSecret": "mine"}}, OF_DATABASE, id="database"),
        pytest.param({"rabbitmq": {"existingSecret": "mine"}}, {("Secret", "taskfleet-broker")}, id="broker secret"),
        pytest.param({"valkey": {"existingSecret": "mine"}}, {("Secret", "taskfleet-valkey")}, id="store secret"),
        pytest.param({"database": {"existingSecret": "mine"}}, {("Secret", "taskfleet-database")}, id="records secret"),
        pytest.param({"api": {"auth": {"mode": "none"}}}, {("Secret", "taskfleet-admin-key")}, id="no auth"),
        pytest.param({"api": {"auth": {"existingSecret": "k"}}}, {("Secret", "taskfleet-admin-key")}, id="own key"),
        pytest.param({"networkPolicy": {"enabled": False}}, POLICIES, id="network policies"),
        pytest.param(
            {"podDisruptionBudgets": {"enabled": False}}, {("PodDisruptionBudget", "taskfleet-api")}, id="budgets"
        ),
        pytest.param({"rbac": {"aggregateToUserRoles": False}}, USER_ROLES, id="user roles"),
        pytest.param(
            {"rbac": {"create": False}},
            {item for item in DEFAULTS if "Role" in item[0]},
            id="rbac",
        ),
    ],
)
def test_disabled_renders_nothing(values: dict[str, Any], gone: set[tuple[str, str]]) -> None:
    assert gone <= DEFAULTS
    assert gone
    assert render_chart(values).names == DEFAULTS - gone


@pytest.mark.parametrize(
    ("values", "added"),
    [
        pytest.param({"ingress": {"enabled": True}}, {("Ingress", "taskfleet-api")}, id="ingress"),
        pytest.param(
            {"httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]}},
            {("HTTPRoute", "taskfleet-api")},
            id="http route",
        ),
        pytest.param(
            {"api": {"autoscaling": {"enabled": True}}},
            {("HorizontalPodAutoscaler", "taskfleet-api")},
            id="autoscaling",
        ),
        pytest.param(
            {"flower": {"enabled": True}},
            {
                (kind, "taskfleet-flower")
                for kind in ("Deployment", "Service", "ServiceAccount", "Secret", "NetworkPolicy")
            },
            id="flower",
        ),
        pytest.param(
            {"metrics": {"serviceMonitor": {"enabled": True}}},
            {
                ("ServiceMonitor", "taskfleet-api"),
                ("ServiceMonitor", "taskfleet-operator"),
                ("PodMonitor", "taskfleet-rabbitmq"),
            },
            id="monitors",
        ),
        pytest.param({"metrics": {"prometheusRule": {"enabled": True}}}, {("PrometheusRule", "taskfleet")}, id="rules"),
        pytest.param(
            {"dashboards": {"enabled": True}},
            {("ConfigMap", f"taskfleet-dashboard-{path.stem}") for path in (CHART / "dashboards").glob("*.json")},
            id="dashboards",
        ),
        pytest.param(
            {"operator": {"replicas": 2}}, {("PodDisruptionBudget", "taskfleet-operator")}, id="two operators"
        ),
        pytest.param({"rabbitmq": {"replicas": 3}}, {("PodDisruptionBudget", "taskfleet-rabbitmq")}, id="three nodes"),
    ],
)
def test_enabled_adds_only_this(values: dict[str, Any], added: set[tuple[str, str]]) -> None:
    assert added
    assert render_chart(values).names == DEFAULTS | added


def test_scope_namespace_needs_nothing_cluster_wide_but_the_crd() -> None:
    values = {"operator": {"scope": "namespace", "namespace": "queues"}, "rbac": {"aggregateToUserRoles": False}}
    rendered = render_chart(values)
    kinds = {"ClusterRole", "ClusterRoleBinding"}
    assert not [name for name in rendered.names if name[0] in kinds]
    assert rendered.get("Role", "taskfleet-operator")["metadata"]["namespace"] == "queues"
    assert rendered.get("RoleBinding", "taskfleet-operator")["metadata"]["namespace"] == "queues"
    assert rendered.get("RoleBinding", "taskfleet-operator")["subjects"][0]["namespace"] == "shop"


@pytest.mark.parametrize(("release", "prefix"), [("taskfleet", "taskfleet"), ("prod", "prod-taskfleet")])
def test_names_begin_with_the_release(release: str, prefix: str) -> None:
    rendered = render_chart({}, release)
    assert ("Service", f"{prefix}-api") in rendered.names
    assert {item["metadata"]["labels"]["app.kubernetes.io/instance"] for item in rendered.find("Service")} == {release}


def test_every_object_is_labelled_and_in_the_release_namespace() -> None:
    for manifest in render_chart({"flower": {"enabled": True}}).manifests:
        if manifest["kind"] == "CustomResourceDefinition":
            continue
        labels = manifest["metadata"]["labels"]
        assert {"app.kubernetes.io/name", "app.kubernetes.io/component", "app.kubernetes.io/version"} <= set(labels)
        if not manifest["kind"].startswith("Cluster"):
            assert manifest["metadata"]["namespace"] == "shop", manifest["metadata"]["name"]


@pytest.mark.parametrize("component", ["api", "operator", "rabbitmq", "valkey", "postgresql", "flower"])
def test_selectors_never_change(component: str) -> None:
    """Kubernetes refuses another selector: whoever changes this breaks every upgrade."""
    rendered = render_chart({"flower": {"enabled": True}, "commonLabels": {"team": "a"}})
    kind = "StatefulSet" if component in {"rabbitmq", "valkey", "postgresql"} else "Deployment"
    selector = rendered.get(kind, f"taskfleet-{component}")["spec"]["selector"]["matchLabels"]
    assert selector == {
        "app.kubernetes.io/name": "taskfleet",
        "app.kubernetes.io/instance": "taskfleet",
        "app.kubernetes.io/component": component,
    }
    assert rendered.get("Service", f"taskfleet-{component}")["spec"]["selector"] == selector


def test_a_new_image_of_the_api_replaces_no_pod_of_the_stores() -> None:
    before, after = render_chart(), render_chart({"api": {"image": {"tag": "other"}}})
    changed = {
        manifest["metadata"]["name"]
        for manifest in before.manifests
        if (template := find_pod_template(manifest))
        and template != find_pod_template(after.get(manifest["kind"], manifest["metadata"]["name"]))
    }
    assert changed == {"taskfleet-api", "taskfleet-test"}


def test_the_crds_are_the_committed_ones_and_outlive_the_release() -> None:
    import yaml

    crds = render_chart().find("CustomResourceDefinition")
    assert {("CustomResourceDefinition", crd["metadata"]["name"]) for crd in crds} == CRDS
    for crd in crds:
        assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        path = CHART.parents[1] / "k8s/crd" / f"{crd['metadata']['name']}.yaml"
        assert crd == yaml.safe_load(path.read_text())


def test_rules_and_dashboards_are_shipped_as_they_are() -> None:
    import yaml

    rendered = render_chart({"metrics": {"prometheusRule": {"enabled": True}}, "dashboards": {"enabled": True}})
    groups = [
        group
        for path in sorted((CHART / "rules").glob("*.yaml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    assert rendered.get("PrometheusRule", "taskfleet")["spec"]["groups"] == groups
    for path in (CHART / "dashboards").glob("*.json"):
        config = rendered.get("ConfigMap", f"taskfleet-dashboard-{path.stem}")
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert config["data"][path.name].rstrip() == path.read_text(encoding="utf-8").rstrip()


def test_kubernetes_authentication_brings_the_right_to_ask_and_a_token() -> None:
    rendered = render_chart({"api": {"auth": {"kubernetes": True}}})
    assert rendered.names - DEFAULTS == {("ClusterRoleBinding", "shop-taskfleet-api-delegation")}
    (binding,) = [item for item in rendered.find("ClusterRoleBinding") if "delegation" in item["metadata"]["name"]]
    assert binding["roleRef"]["name"] == "system:auth-delegator"
    assert [subject["name"] for subject in binding["subjects"]] == ["taskfleet-api"]
    (api,) = [item for item in rendered.find("Deployment") if item["metadata"]["name"] == "taskfleet-api"]
    pod = find_pod_template(api)["spec"]
    assert pod["automountServiceAccountToken"] is True
    environment = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert environment["TASKFLEET_API_KUBERNETES_AUTH"] == "true"
    plain = render_chart().find("Deployment")
    (api,) = [item for item in plain if item["metadata"]["name"] == "taskfleet-api"]
    assert find_pod_template(api)["spec"]["automountServiceAccountToken"] is False
