"""TLS on every connection, on a cluster: with given secrets and with cert-manager, until certificates are renewed.

`make cluster-tls` runs it: two installations of their own and a renewal that waits for the kubelet take minutes.
"""

import asyncio
import contextlib
import json
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import pytest
import redis
from tests.cluster.test_monitoring import scrape
from tests.support.cert_manager import ISSUER, build_issuer, running_cert_manager
from tests.support.certificates import Authority
from tests.support.cluster import RELEASE, build_queue, open_cluster, running_cluster
from tests.support.secure_cluster import PARTS, SecureCluster
from tests.support.waiting import eventually_sync

RENEWAL_SECONDS = 240  # until the kubelet has brought a changed secret into a running pod
AMQP_GREETING = b"AMQP\x00\x00\x09\x01"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCluster]:
    """An installation with certificates in given secrets."""
    folder = tmp_path_factory.mktemp("tls")
    with running_cluster(partial(SecureCluster, folder=folder)) as made:
        if made.environment.get("TASKFLEET_CLUSTER") != "one-node":
            pytest.skip("looks at the addresses of Services, which the one-node cluster alone shows to this machine")
        yield made


def test_a_queue_wakes_works_and_sleeps_over_tls(secure: SecureCluster) -> None:
    """0 -> 1 -> 0; every connection at the broker is encrypted and has the user of its role, or of its queue."""
    name = secure.apply(build_queue("secure", {"maxReplicas": 1}, concurrency=2))
    assert secure.condition(name, "BrokerUserReady")["reason"] == "BrokerUserMade"
    load = secure.submit(name, 8, 2)
    secure.wait_running(load, 1)
    connections = list_connections(secure)
    assert all(row["ssl"] for row in connections), connections
    users = {str(row["user"]) for row in connections}
    assert any(user.startswith(f"taskfleet.{secure.namespace}.{name}.") for user in users), users
    assert "taskfleet-api" in users
    assert "taskfleet-worker" not in users
    assert secure.wait_done(load) == Counter(succeeded=8)
    secure.wait_asleep(name)
    assert [event["reason"] for event in secure.events(name)].count("ScaledUp") >= 1
    secure.delete(name)


def list_connections(secure: SecureCluster) -> list[dict[str, object]]:
    command = ["rabbitmqctl", "--quiet", "list_connections", "user", "ssl", "--formatter", "json"]
    printed = secure.kubectl("exec", f"statefulset/{RELEASE}-rabbitmq", "--", *command)
    return list(json.loads(printed))


@pytest.mark.parametrize("part", PARTS)
def test_each_server_shows_a_certificate_of_the_authority_and_is_refused_by_others(
    secure: SecureCluster, part: str, tmp_path: Path
) -> None:
    assert secure.fetch_serial(part)
    stranger = ssl.create_default_context(cafile=str(Authority(tmp_path, "Another Authority").ca_file))
    with pytest.raises(ssl.SSLCertVerificationError):
        secure.fetch_serial(part, stranger)


def test_no_port_speaks_plain_text(secure: SecureCluster) -> None:
    address, port = secure.address_of("api")
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{address}:{port}/livez", timeout=5, trust_env=False)
    address, port = secure.address_of("valkey")
    plain = redis.Redis(host=address, port=port, socket_timeout=5)
    with contextlib.closing(plain), pytest.raises(redis.RedisError):
        plain.ping()
    address, port = secure.address_of("rabbitmq")
    with socket.create_connection((address, port), timeout=5) as connection:
        connection.sendall(AMQP_GREETING)
        assert not connection.recv(8).startswith((b"AMQP", b"\x01"))
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{address}:15671/api/overview", timeout=5, trust_env=False)
    (pod,) = secure.find("pods", "app.kubernetes.io/component=rabbitmq")
    for closed in (5672, 15672):
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((pod["status"]["podIP"], closed), timeout=5)
    with pytest.raises(asyncpg.PostgresError, match="no encryption"):
        asyncio.run(open_database_in_plain_text(secure))


async def open_database_in_plain_text(secure: SecureCluster) -> None:
    address, port = secure.address_of("postgresql")
    password = secure.read_secret(f"{RELEASE}-database", "password")
    login = {"user": "taskfleet", "password": password, "database": "taskfleet"}
    connection = await asyncpg.connect(host=address, port=port, ssl=False, timeout=10, **login)
    await connection.close()


def test_metrics_are_scraped(secure: SecureCluster) -> None:
    assert secure.http.get("/metrics").text.count("taskfleet_api") > 1
    assert "taskfleet_operator_leader 1.0" in scrape(secure, "operator", "metrics")


def test_renewed_certificates_are_taken_up_and_no_task_is_lost(secure: SecureCluster) -> None:
    """RabbitMQ reads them by itself, the others at a restart; tasks are submitted and run all the while."""
    name = secure.apply(build_queue("renewal", {"minReplicas": 1, "maxReplicas": 2}, concurrency=4))
    # What the tasks note themselves, they note in the store: while it restarts they fail, and are tried again.
    again = {"retry": {"max_attempts": 20, "backoff_seconds": 1, "max_backoff_seconds": 2}}
    load = secure.submit(name, 20, 1, **again)
    secure.wait_running(load, 1)
    before = {part: secure.fetch_serial(part) for part in PARTS}
    secure.write_certificates()
    restarted = [f"deployment/{RELEASE}-api", f"statefulset/{RELEASE}-valkey", f"statefulset/{RELEASE}-postgresql"]
    secure.kubectl("rollout", "restart", *restarted)

    def is_renewed() -> bool:
        with contextlib.suppress(httpx.HTTPError, AssertionError):  # what is not accepted is the caller's to repeat
            secure.submit(name, 2, 0.5, load, **again)
        if secure.find_serial("rabbitmq") == before["rabbitmq"]:
            clear_certificate_cache(secure)
        return all(secure.find_serial(part) not in (None, serial) for part, serial in before.items())

    eventually_sync(is_renewed, RENEWAL_SECONDS, 2)
    for what in restarted:
        secure.kubectl("rollout", "status", what, "--timeout", "120s", timeout_seconds=150)
    secure.submit(name, 4, 0.1, load, **again)
    states = secure.wait_done(load, 180)
    assert set(states) == {"succeeded"}, states
    assert states["succeeded"] >= len(load.ids), "an answer that was lost on its way is no task that is"
    runs = secure.read_runs(load)
    assert set(load.ids) - set(runs.ended) == set()
    secure.delete(name)


def clear_certificate_cache(secure: SecureCluster) -> None:
    """Erlang keeps certificates in memory for two minutes."""
    secure.kubectl("exec", f"statefulset/{RELEASE}-rabbitmq", "--", "rabbitmqctl", "eval", "ssl:clear_pem_cache().")


class IssuedCluster(SecureCluster):
    """Certificates are cert-manager's."""

    def prepare(self) -> None:
        self.kubectl("apply", "-f", "-", text=build_issuer())
        self.kubectl("wait", "--for=condition=Ready", f"issuer/{ISSUER}", "--timeout=60s")
        self.ca_file = self._folder / "issued-ca.crt"
        self.ca_file.write_text(self.read_secret(ISSUER, "tls.crt"))


def test_cert_manager_makes_and_renews_them(tmp_path: Path) -> None:
    tls = {"enabled": True, "issuer": {"name": ISSUER}}
    with (
        running_cert_manager(open_cluster(), tmp_path),
        running_cluster(partial(IssuedCluster, folder=tmp_path), tls=tls) as issued,
    ):
        certificates = issued.find("certificates.cert-manager.io")
        ready = {item["metadata"]["name"]: item["status"]["conditions"] for item in certificates}
        assert {f"{RELEASE}-{part}" for part in PARTS} <= set(ready)
        name = issued.apply(build_queue("issued", {"maxReplicas": 1}))
        assert issued.wait_done(issued.submit(name, 4, 0.2)) == Counter(succeeded=4)
        before = issued.fetch_serial("api")
        issued.kubectl("delete", "secret", f"{RELEASE}-api-tls")
        issued.kubectl("wait", "--for=create", f"secret/{RELEASE}-api-tls", "--timeout=60s")
        issued.kubectl("rollout", "restart", f"deployment/{RELEASE}-api")
        eventually_sync(lambda: issued.find_serial("api") not in (None, before), 120, 1)
        issued.kubectl("rollout", "status", f"deployment/{RELEASE}-api", "--timeout=120s", timeout_seconds=150)
        assert issued.wait_done(issued.submit(name, 2, 0.2)) == Counter(succeeded=2)
        issued.delete(name)
        issued.wait_asleep(name)
