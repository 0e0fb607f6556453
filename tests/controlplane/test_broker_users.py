"""The operator gives each TaskQueue a broker user of its own, renews it, and takes it away with the last worker."""

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from tests.controlplane.operators import OperatorProcess, get_condition
from tests.controlplane.rights import bind_rights
from tests.controlplane.samples import build_task_queue, create, queue_path
from tests.support.brokers import RabbitMQ, Valkey
from tests.support.controlplane import ControlPlane
from tests.support.waiting import eventually_sync

from taskfleet_core.addresses import parse_amqp_url

pytestmark = pytest.mark.timeout(150, func_only=True)
SECONDS = 45
MERGE = "application/merge-patch+json"
ROTATE = "taskfleet.dev/rotate-broker-user"


class Site:
    """A namespace, an operator that manages users, and its broker."""

    def __init__(self, plane: ControlPlane, broker: RabbitMQ, namespace: str, operator: OperatorProcess) -> None:
        self.plane, self.broker, self.namespace, self.operator = plane, broker, namespace, operator

    def log_tails(self) -> list[tuple[str, str]]:
        return self.operator.log_tails()

    def create(self, name: str, **spec: Any) -> str:
        create(self.plane, build_task_queue(self.namespace, name, **spec))
        return name

    def condition(self, name: str, kind: str = "BrokerUserReady") -> dict[str, Any]:
        return get_condition(self.plane, self.namespace, name, kind)

    def read_url(self, name: str) -> str:
        """The broker URL of a TaskQueue's workers; empty while there is none."""
        secret = self.plane.find(f"/api/v1/namespaces/{self.namespace}/secrets/{name}-worker") or {"data": {}}
        return base64.b64decode(secret["data"].get("brokerUrl", "")).decode()

    def read_user(self, name: str) -> str:
        """As whom they log in."""
        url = self.read_url(name)
        return parse_amqp_url(url)[0].user if url else ""

    def wait_user(self, name: str, other_than: str = "") -> str:
        """The TaskQueue's own user, once its Secret has it."""

        def find() -> str:
            user = self.read_user(name)
            return user if user.startswith("taskfleet.") and user != other_than else ""

        return eventually_sync(find, SECONDS)

    def list_users(self) -> set[str]:
        return {row["name"] for row in self.broker.management("GET", "/api/users")}

    def get_template(self, name: str) -> dict[str, Any]:
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}-worker"
        deployment = eventually_sync(lambda: self.plane.find(path), SECONDS)
        return dict(deployment["spec"]["template"])

    def rotate(self, name: str, value: str) -> None:
        change = {"metadata": {"annotations": {ROTATE: value}}}
        self.plane.request("PATCH", queue_path(self.namespace, name), change, MERGE)


def start_operator(
    plane: ControlPlane, broker: RabbitMQ, valkey: Valkey, folder: Path, login: str = "guest:guest"
) -> Site:
    namespace = plane.make_namespace("users")
    operator = OperatorProcess(plane, valkey, folder, namespace, namespace, bind_rights(plane, namespace))
    operator.environment = {
        "TASKFLEET_OPERATOR_BROKER_URL": broker.url,
        "TASKFLEET_OPERATOR_WORKER_BROKER_URL": broker.url.replace("guest:guest", "shared:shared"),
        "TASKFLEET_OPERATOR_BROKER_MANAGEMENT_URL": broker.management_url,
        "TASKFLEET_OPERATOR_BROKER_METRICS_URL": broker.metrics_url,
        "TASKFLEET_OPERATOR_BROKER_USERS_URL": broker.management_url.replace("guest:guest", login),
    }
    operator.start()
    return Site(plane, broker, namespace, operator)


@pytest.fixture(scope="module")
def site(
    control_plane: ControlPlane, rabbitmq43: RabbitMQ, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    made = start_operator(control_plane, rabbitmq43, valkey, tmp_path_factory.mktemp("users"))
    yield made
    made.operator.kill()


def logs_in(url: str) -> bool:
    """Whether a client with this URL may read its queue."""
    with contextlib.suppress(Exception), Connection(url, connect_timeout=10) as connection:
        connection.connect()
        return True
    return False


def test_each_taskqueue_has_a_user_that_reads_its_own_queue_alone(site: Site) -> None:
    first, second = site.create("first"), site.create("second")
    users = {name: site.wait_user(name) for name in (first, second)}
    assert len(set(users.values())) == 2
    assert users[first].startswith(f"taskfleet.{site.namespace}.first.")
    eventually_sync(lambda: site.condition(first).get("reason") == "BrokerUserMade", SECONDS)
    assert users[first] in site.condition(first)["message"]
    with Connection(site.read_url(first), connect_timeout=10) as connection:
        connection.channel().basic_get(first)
        with pytest.raises(Exception, match="ACCESS_REFUSED"):
            connection.channel().basic_get(second)
    template = site.get_template(first)
    assert template["metadata"]["annotations"]["taskfleet.dev/broker-user"] == users[first]
    (container,) = template["spec"]["containers"]
    assert {"name": "TASKFLEET_CONFINED", "value": "delays"} in container["env"]
    assert "shared" not in str(template)
    password = parse_amqp_url(site.read_url(first))[0].password
    assert password not in str(template)


def test_queues_of_the_namespace_may_be_named_to_send_to(site: Site) -> None:
    sender = site.create("sender", worker={"sendsTo": ["target", "nowhere"]})
    user = site.wait_user(sender)

    def read_rights() -> str:
        rows = site.broker.management("GET", "/api/permissions")
        return str(next((row["write"] for row in rows if row["user"] == user), ""))

    eventually_sync(lambda: "of sendsTo: nothing can be sent" in site.condition(sender).get("message", ""), SECONDS)
    assert "target" not in read_rights()
    site.create("target")
    eventually_sync(lambda: "taskfleet:to:target" in read_rights(), SECONDS)
    assert "nowhere" not in read_rights()


def test_a_rotation_makes_another_user_and_the_old_one_goes_with_the_last_pod(site: Site) -> None:
    name = site.create("rotated")
    old, old_url = site.wait_user(name), site.read_url("rotated")
    pod = make_pod(site, name)
    site.rotate(name, "today")
    new = site.wait_user(name, other_than=old)
    eventually_sync(
        lambda: site.get_template(name)["metadata"]["annotations"]["taskfleet.dev/broker-user"] == new, SECONDS
    )
    assert logs_in(old_url), "the pod that is left still needs it"
    assert logs_in(site.read_url(name))
    site.plane.request("DELETE", f"/api/v1/namespaces/{site.namespace}/pods/{pod}?gracePeriodSeconds=0")
    eventually_sync(lambda: old not in site.list_users(), SECONDS)
    assert new in site.list_users()


def make_pod(site: Site, name: str) -> str:
    """A worker pod, as the controllers would make it."""
    template = site.get_template(name)
    metadata = {**template["metadata"], "name": f"{name}-worker-x"}
    site.plane.request(
        "POST", f"/api/v1/namespaces/{site.namespace}/pods", {"metadata": metadata, "spec": template["spec"]}
    )
    return str(metadata["name"])


def test_with_the_taskqueue_its_user_goes_and_nobody_elses(site: Site) -> None:
    site.broker.management("PUT", "/api/users/taskfleet.by.hand", {"password": "x", "tags": "taskfleet"})
    name = site.create("leaving")
    user = site.wait_user(name)
    before = site.list_users()
    site.plane.request("DELETE", queue_path(site.namespace, name))
    # The garbage collector's work, which does not run here.
    site.plane.request("DELETE", f"/api/v1/namespaces/{site.namespace}/secrets/{name}-worker")
    eventually_sync(lambda: user not in site.list_users(), SECONDS)
    assert site.list_users() == before - {user}
    site.broker.management("DELETE", "/api/users/taskfleet.by.hand")


def test_a_new_operator_takes_over_passwords_and_users(site: Site) -> None:
    name = site.create("kept")
    site.wait_user(name)
    url, users = site.read_url(name), site.list_users()
    site.operator.stop()
    site.broker.management("DELETE", f"/api/users/{site.read_user(name)}")
    site.operator.start()
    eventually_sync(lambda: logs_in(url), SECONDS)
    assert site.read_url(name) == url
    assert site.list_users() == users


def test_without_the_right_to_make_users_no_worker_starts_and_none_gets_the_shared_one(
    control_plane: ControlPlane, rabbitmq43: RabbitMQ, valkey: Valkey, tmp_path: Path
) -> None:
    rabbitmq43.management("PUT", "/api/users/poor", {"password": "poor", "tags": "policymaker"})
    site = start_operator(control_plane, rabbitmq43, valkey, tmp_path, "poor:poor")
    try:
        name = site.create("waiting")
        eventually_sync(lambda: site.condition(name, "Ready").get("reason") == "BrokerUserRefused", SECONDS)
        condition = site.condition(name)
        assert (condition["status"], condition["reason"]) == ("False", "BrokerUserRefused")
        assert "administrator" in condition["message"]
        assert site.read_url(name) == ""
        rabbitmq43.management("PUT", "/api/users/poor", {"password": "poor", "tags": "administrator"})
        assert site.wait_user(name).startswith(f"taskfleet.{site.namespace}.waiting.")
        eventually_sync(lambda: site.condition(name, "Ready").get("status") == "True", SECONDS)
    finally:
        site.operator.kill()
