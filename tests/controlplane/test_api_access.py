"""RBAC decides who may do what with which queue: a real Kubernetes API server, real tokens, a real HTTP API."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.controlplane import ControlPlane
from tests.support.stack import QueueOptions, Stack, StackOptions, running_stack
from tests.support.waiting import eventually_sync

ADMIN_KEY = "correct-horse-battery-staple"
TASKS = "/api/v1/tasks"


@dataclass
class Site:
    """An API that asks a control plane; the queues `<namespace>-a` and `-b` of two namespaces."""

    plane: ControlPlane
    stack: Stack
    namespaces: tuple[str, str]

    def call(self, method: str, path: str, token: str, body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(
            method, self.stack.base_url + path, json=body, headers=headers, trust_env=False, timeout=30
        )

    def submit(self, queue: str, token: str) -> httpx.Response:
        return self.call("POST", TASKS, token, {"queue": queue, "task": "jobs.add"})

    def grant(self, namespace: str, verbs: list[str], *, names: tuple[str, ...] = ()) -> str:
        """The token of a new account with these verbs on taskqueues/tasks."""
        account = f"caller-{uuid.uuid4().hex[:6]}"
        token = self.plane.make_account(namespace, account)
        rule = {"apiGroups": ["taskfleet.dev"], "resources": ["taskqueues/tasks"], "verbs": verbs}
        if names:
            rule["resourceNames"] = list(names)
        base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        self.plane.request("POST", f"{base}/roles", {"metadata": {"name": account}, "rules": [rule]})
        binding = {
            "metadata": {"name": account},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        }
        self.plane.request("POST", f"{base}/rolebindings", binding)
        return token


@pytest.fixture(scope="module")
def site(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The API's own account may ask for reviews and nothing else."""
    namespaces = (control_plane.make_namespace("team"), control_plane.make_namespace("other"))
    token_file: Path = tmp_path_factory.mktemp("account") / "token"
    token_file.write_text(control_plane.make_account(namespaces[0], "api"))
    binding = {
        "metadata": {"name": f"api-{namespaces[0]}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": "api", "namespace": namespaces[0]}],
    }
    control_plane.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    environment = {
        "auth_mode": "apiKey",
        "admin_key": ADMIN_KEY,
        "kubernetes_auth": "true",
        "kubernetes_url": control_plane.url,
        "kubernetes_token_file": str(token_file),
        "kubernetes_ca_file": str(control_plane.folder / "pki/ca.crt"),
        "references": "000",
    }
    with running_stack(StackOptions(broker="valkey", database="sqlite", environment=environment)) as stack:
        for namespace in namespaces:
            for letter in "ab":
                stack.add_queue(f"{namespace}-{letter}", QueueOptions(namespace=namespace))
        yield Site(control_plane, stack, namespaces)


def test_a_role_binding_lets_submit_to_the_queues_of_its_namespace_only(site: Site) -> None:
    team, other = site.namespaces
    token = site.grant(team, ["create"])
    accepted = site.submit(f"{team}-a", token)
    assert accepted.status_code == 202, accepted.text
    refused = site.submit(f"{other}-a", token)
    assert refused.status_code == 404
    assert other not in str(refused.json().get("queues"))
    batch = [{"queue": f"{team}-b", "task": "jobs.add"}, {"queue": f"{other}-b", "task": "jobs.add"}]
    items = site.call("POST", f"{TASKS}:batch", token, batch).json()["items"]
    assert [item["status"] for item in items] == [202, 404]
    task = f"{TASKS}/{accepted.json()['id']}"
    assert site.call("GET", task, token).status_code == 404  # create is not get
    assert site.call("DELETE", task, token).status_code == 404
    reader = site.grant(team, ["get"])
    assert site.call("GET", task, reader).json()["queue"] == f"{team}-a"


def test_each_verb_is_asked_for_by_itself(site: Site) -> None:
    team, other = site.namespaces
    everything = site.grant(team, ["create", "get", "list", "delete", "update"])
    task = f"{TASKS}/{site.submit(f'{team}-a', everything).json()['id']}"
    lister = site.grant(team, ["list"])
    listed = site.call("GET", TASKS, lister).json()["items"]
    assert {item["queue"] for item in listed} <= {f"{team}-a", f"{team}-b"}
    assert task.rpartition("/")[2] in {item["id"] for item in listed}
    queues = site.call("GET", "/api/v1/queues", lister).json()["items"]
    assert [queue["name"] for queue in queues] == [f"{team}-a", f"{team}-b"]
    assert site.call("GET", task, lister).status_code == 404
    assert site.call("POST", f"/api/v1/queues/{team}-a/dead:purge", site.grant(team, ["get"])).status_code == 404
    assert site.call("POST", f"/api/v1/queues/{team}-a/dead:purge", everything).status_code == 200
    assert site.call("POST", f"/api/v1/queues/{other}-a/dead:purge", everything).status_code == 404
    assert site.call("DELETE", task, everything).status_code in (200, 202)


def test_a_role_may_name_single_task_queues(site: Site) -> None:
    team, _ = site.namespaces
    token = site.grant(team, ["create"], names=(f"{team}-a",))
    assert [site.submit(f"{team}-{letter}", token).status_code for letter in "ab"] == [202, 404]


def test_tokens_that_kubernetes_does_not_know_are_refused(site: Site) -> None:
    team, _ = site.namespaces
    token = site.grant(team, ["create"])
    for wrong in (token[:-3] + "abc", "a.b.c", f"{token}.x"):
        assert site.submit(f"{team}-a", wrong).status_code == 401


def test_nobody_reaches_keys_or_reference_contracts_with_a_token(site: Site) -> None:
    token = site.grant(site.namespaces[0], ["create", "get", "list", "delete", "update"])
    assert site.call("GET", "/api/v1/keys", token).status_code == 403
    assert site.call("POST", "/send-message", token, {}).status_code == 403
    assert site.call("GET", "/api/v1/queues", ADMIN_KEY).status_code == 200


def test_a_right_that_is_taken_away_ends_soon(site: Site) -> None:
    team, _ = site.namespaces
    token = site.grant(team, ["create"])
    assert site.submit(f"{team}-a", token).status_code == 202
    roles = site.plane.request("GET", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{team}/rolebindings")["items"]
    for role in roles:
        site.plane.request(
            "DELETE", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{team}/rolebindings/{role['metadata']['name']}"
        )
    eventually_sync(lambda: site.submit(f"{team}-a", token).status_code == 404, 30, 0.5)
