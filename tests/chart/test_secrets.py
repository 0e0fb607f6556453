"""Credentials: an existing secret comes first, else one is generated once; every pod finds what it refers to."""

from typing import Any

import pytest
from tests.support.chart import Manifest, Rendered, find_references, render_chart

OWN = {
    "api": {"auth": {"existingSecret": "own-key"}},
    "rabbitmq": {"existingSecret": "own-broker"},
    "valkey": {"existingSecret": "own-store"},
    "database": {"existingSecret": "own-records"},
    "flower": {"enabled": True, "existingSecret": "own-flower"},
}
ELSEWHERE = {part: {"enabled": False, "existingSecret": f"own-{part}"} for part in ("rabbitmq", "valkey", "database")}


def get_generated(rendered: Rendered) -> dict[str, Manifest]:
    return {secret["metadata"]["name"]: secret for secret in rendered.find("Secret")}


def test_every_pod_finds_its_credentials_in_the_generated_secrets() -> None:
    rendered = render_chart({"flower": {"enabled": True}})
    secrets = get_generated(rendered)
    references = set(find_references(rendered))
    assert {name for name, _, _ in references} == set(secrets)
    for name, key, _ in references:
        assert key in secrets[name]["stringData"], (name, key)


def test_existing_secrets_replace_the_generated_ones() -> None:
    rendered = render_chart(OWN)
    assert not rendered.find("Secret")
    assert {name for name, _, _ in find_references(rendered)} == {
        "own-key",
        "own-broker",
        "own-store",
        "own-records",
        "own-flower",
    }


def test_servers_elsewhere_need_their_urls_only() -> None:
    rendered = render_chart(ELSEWHERE | {"api": {"auth": {"mode": "none"}}})
    assert not rendered.find("StatefulSet")
    needed = {(name, key) for name, key, optional in find_references(rendered) if not optional}
    assert needed == {("own-rabbitmq", "url"), ("own-valkey", "url"), ("own-database", "url")}


def test_urls_are_good_in_every_namespace() -> None:
    for secret in get_generated(render_chart()).values():
        urls = [value for key, value in secret["stringData"].items() if key.lower().endswith("url")]
        assert all(".shop.svc:" in url for url in urls), secret["metadata"]["name"]


def test_passwords_are_random_and_the_url_has_the_same_one() -> None:
    secrets = get_generated(render_chart())
    passwords = [secrets[f"taskfleet-{name}"]["stringData"]["password"] for name in ("broker", "valkey", "database")]
    assert len(set(passwords)) == 3
    for name, password in zip(("broker", "valkey", "database"), passwords, strict=True):
        assert len(password) == 32
        assert f":{password}@" in secrets[f"taskfleet-{name}"]["stringData"]["url"]


@pytest.mark.parametrize(("values", "kept"), [({}, True), ({"keepData": False}, False)])
def test_passwords_stay_as_long_as_the_data_that_they_open(values: dict[str, Any], kept: bool) -> None:
    rendered = render_chart(values)
    for secret in get_generated(rendered).values():
        annotations = secret["metadata"].get("annotations", {})
        assert (annotations.get("helm.sh/resource-policy") == "keep") is kept
    for workload in rendered.find("StatefulSet"):
        policy = workload["spec"]["persistentVolumeClaimRetentionPolicy"]
        assert policy == {"whenDeleted": "Retain" if kept else "Delete", "whenScaled": "Retain"}


def test_without_authentication_the_api_gets_no_key() -> None:
    pod = render_chart({"api": {"auth": {"mode": "none"}}}).get("Deployment", "taskfleet-api")["spec"]["template"]
    names = {variable["name"] for variable in pod["spec"]["containers"][0]["env"]}
    assert "TASKFLEET_API_ADMIN_KEY" not in names
