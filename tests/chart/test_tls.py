"""TLS and users by the chart: the examples of docs/tls.md render, and nothing is left in clear text by accident."""

import json
import re
from typing import Any

import pytest
import yaml
from tests.support.chart import ROOT, ChartError, build_pods, render_chart

EXAMPLES = re.findall(r"^```yaml show\n(.*?)^```", (ROOT / "docs/tls.md").read_text(), re.MULTILINE | re.DOTALL)
BY_ISSUER, BY_SECRETS = (yaml.safe_load(text) for text in EXAMPLES)
PARTS = ("api", "rabbitmq", "valkey", "postgresql")


def test_an_issuer_signs_a_certificate_for_each_server() -> None:
    rendered = render_chart(BY_ISSUER)
    certificates = {item["metadata"]["name"]: item["spec"] for item in rendered.find("Certificate")}
    assert set(certificates) == {f"taskfleet-{part}" for part in PARTS}
    for name, spec in certificates.items():
        assert {f"{name}.shop.svc", "localhost"} <= set(spec["dnsNames"])
        assert spec["issuerRef"] == {"name": "taskfleet-ca", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    assert "tasks.example.com" in certificates["taskfleet-api"]["dnsNames"]


def test_secrets_of_ones_own_need_no_cert_manager() -> None:
    rendered = render_chart(BY_SECRETS)
    assert not rendered.find("Certificate")
    mounted = {
        (volume["name"], volume["secret"]["secretName"])
        for _, pod in build_pods(rendered)
        for volume in pod["spec"]["volumes"]
        if volume["name"] in ("tls", "authority")
    }
    assert mounted == {*(("tls", f"{part}-tls") for part in PARTS), ("authority", "authority")}


@pytest.mark.parametrize("values", [BY_ISSUER, BY_SECRETS])
def test_every_url_and_probe_is_encrypted(values: dict[str, Any]) -> None:
    rendered = render_chart(values | {"flower": {"enabled": True}})
    urls = {
        f"{secret['metadata']['name']} {key}": value
        for secret in rendered.find("Secret")
        for key, value in secret["stringData"].items()
        if key.lower().endswith("url") and key != "metricsUrl"
    }
    assert len(urls) == 11
    for name, url in urls.items():
        assert url.startswith(("amqps://", "rediss://", "https://", "postgresql://")), name
        assert not url.startswith("postgresql") or url.endswith("?sslmode=verify-full")
    (container,) = rendered.get("Deployment", "taskfleet-api")["spec"]["template"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
    ports = {port["port"] for port in rendered.get("Service", "taskfleet-rabbitmq")["spec"]["ports"]}
    assert ports == {5671, 15671, 15692}


@pytest.mark.parametrize(("part", "component"), [("api", "api"), ("database", "postgresql")])
def test_a_server_without_a_certificate_is_named(part: str, component: str) -> None:
    secrets = BY_SECRETS["tls"]["secrets"] | {component: ""}
    with pytest.raises(ChartError, match=f"tls.secrets.{component}"):
        render_chart({"tls": BY_SECRETS["tls"] | {"secrets": secrets}})
    if part != "api":
        elsewhere = {part: {"enabled": False, "existingSecret": "mine"}}
        assert render_chart({"tls": BY_SECRETS["tls"] | {"secrets": secrets}} | elsewhere)


def test_each_role_has_its_own_user_and_key() -> None:
    rendered = render_chart()
    broker = rendered.get("Secret", "taskfleet-broker")["stringData"]
    definitions = json.loads(broker["definitions.json"])
    users = {user["name"]: user for user in definitions["users"]}
    assert {user["user"] for user in definitions["permissions"]} == set(users)
    for role in ("api", "operator", "worker"):
        user = users[f"taskfleet-{role}"]
        assert "administrator" not in user["tags"]
        assert f"//{user['name']}:{user['password']}@" in broker[f"{role}Url"]
    (operator,) = rendered.get("Deployment", "taskfleet-operator")["spec"]["template"]["spec"]["containers"]
    keys = {
        entry["name"].removeprefix("TASKFLEET_OPERATOR_"): entry["valueFrom"]["secretKeyRef"]["key"]
        for entry in operator["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    assert keys["BROKER_URL"] == keys["REDIS_URL"] == "operatorUrl"
    assert keys["WORKER_BROKER_URL"] == keys["WORKER_REDIS_URL"] == "workerUrl"


def test_a_user_for_each_queue_needs_one_administrator_without_rights_to_queues() -> None:
    assert "usersUrl" not in str(render_chart().manifests)
    rendered = render_chart({"rabbitmq": {"userPerQueue": True}, "tls": BY_SECRETS["tls"]})
    broker = rendered.get("Secret", "taskfleet-broker")["stringData"]
    definitions = json.loads(broker["definitions.json"])
    (user,) = [user for user in definitions["users"] if user["name"] == "taskfleet-users"]
    assert user["tags"] == ["administrator"]
    assert user["name"] not in {row["user"] for row in definitions["permissions"]}
    assert broker["usersUrl"] == f"https://taskfleet-users:{user['password']}@taskfleet-rabbitmq.shop.svc:15671"
    holders = {
        name
        for name, pod in build_pods(rendered)
        for container in pod["spec"]["containers"]
        if "usersUrl" in str(container.get("env"))
    }
    assert holders == {"Deployment/taskfleet-operator"}


def test_an_image_by_digest_has_no_tag() -> None:
    digest = "sha256:" + "ab" * 32
    pods = render_chart({"api": {"image": {"digest": digest}}, "valkey": {"image": {"digest": digest}}})
    images = {name: pod["spec"]["containers"][0]["image"] for name, pod in build_pods(pods)}
    assert images["Deployment/taskfleet-api"] == f"docker.io/taskfleet/api@{digest}"
    assert images["StatefulSet/taskfleet-valkey"] == f"docker.io/valkey/valkey@{digest}"
    with pytest.raises(ChartError, match="digest"):
        render_chart({"api": {"image": {"digest": "latest"}}})
