"""Planted passwords, keys and secrets stand in no log, answer, metric, error or status, also when things fail."""

import base64
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.databases import POSTGRESQL_BIN
from tests.support.hardened import DATABASE_PASSWORD, HardenedStack
from tests.support.processes import free_port
from tests.support.stack import API_PREFIX
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync

from taskfleet_operator.brokers import BrokerAccess, BrokerDirectory
from taskfleet_operator.observed import Credentials
from taskfleet_operator.settings import OperatorSettings

pytestmark = pytest.mark.timeout(120, func_only=True)
WRONG = "planted-wrong-password-31c7"


@pytest.fixture(scope="module")
def key(hardened: HardenedStack) -> str:
    """An API key that was made over HTTP."""
    body = {"name": "planted", "scopes": ["admin"]}
    answer = hardened.client().post(f"{API_PREFIX}/keys", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


@pytest.fixture(scope="module")
def secrets(hardened: HardenedStack, key: str) -> list[str]:
    """All that must not be seen."""
    return [*hardened.list_secrets(), key, WRONG]


@pytest.fixture(scope="module")
def troubled(hardened: HardenedStack) -> Iterator[int]:
    """A replica that is refused by broker and store; its number."""
    urls = {
        "broker_url": f"amqps://taskfleet-api:{WRONG}@127.0.0.1:{hardened.broker.tls_port}//",
        "redis_url": f"rediss://api:{WRONG}@127.0.0.1:{hardened.valkey.port}/0",
        "broker_management_url": f"https://taskfleet-api:{WRONG}@127.0.0.1:{hardened.broker.tls_management_port}",
    }
    hardened.add_queue("unlucky")  # while every replica can see it
    number = hardened.add_api(**urls)
    yield number
    hardened.stop_api(number)


def find(secrets: list[str], text: str) -> list[str]:
    """Which of them are in the text, as they are or in base64."""
    forms = {secret: (secret, base64.b64encode(secret.encode()).decode().rstrip("=")) for secret in secrets}
    return [secret for secret, both in forms.items() if any(form in text for form in both)]


def test_no_answer_and_no_metric_shows_one(
    hardened: HardenedStack, troubled: int, secrets: list[str], key: str
) -> None:
    for replica in (0, troubled):
        client = hardened.client(replica, headers={"Authorization": f"Bearer {key}"})
        paths = (
            "/livez",
            "/readyz",
            "/metrics",
            "/openapi.json",
            "/docs",
            f"{API_PREFIX}/keys",
            f"{API_PREFIX}/queues",
        )
        for path in (*paths, f"{API_PREFIX}/queues/jobs", f"{API_PREFIX}/tasks", f"{API_PREFIX}/nothing"):
            answer = client.get(path)
            assert not find(secrets, answer.text + str(answer.headers)), (replica, path)
    refused = hardened.client(0, headers={"Authorization": f"Bearer {key}x"}).get(f"{API_PREFIX}/queues")
    assert refused.status_code == 401
    assert not find(secrets, refused.text)


def test_no_log_shows_one(hardened: HardenedStack, troubled: int, secrets: list[str], key: str) -> None:
    api = TaskApi(hardened.client())
    failed = api.run("jobs", "jobs.fail", "no luck")
    assert not find(secrets, str(failed))
    hardened.client(0, headers={"X-API-Key": key}).delete(f"{API_PREFIX}/keys/nobody")
    hardened.client(0, headers={"Authorization": f"Bearer {WRONG}"}).get(f"{API_PREFIX}/tasks")
    log = hardened.directory / f"api-{troubled}.log"
    eventually_sync(lambda: "broker.connect_failed" in log.read_text(), 30, interval_seconds=0.2)
    eventually_sync(lambda: "invalid username-password" in log.read_text(), 30, interval_seconds=0.2)
    bad = {"CELERY_BROKER_URL": f"amqps://taskfleet-worker:{WRONG}@127.0.0.1:{hardened.broker.tls_port}//"}
    bad |= dict.fromkeys(("CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"), bad["CELERY_BROKER_URL"])
    worker = hardened.start_worker("unlucky", env=bad, wait=False)
    assert worker.process.log is not None
    eventually_sync(lambda: "ACCESS_REFUSED" in worker.process.output(20_000), 60, interval_seconds=0.2)
    hardened.stop_workers("unlucky", kill=True)
    logs = dict(hardened.read_logs())
    assert {"api-0", f"api-{troubled}", "worker-jobs-1", "worker-unlucky-" + worker.host[-1]} <= set(logs)
    for name, text in logs.items():
        assert not find(secrets, text), name


def test_neither_database_nor_store_holds_one(hardened: HardenedStack, secrets: list[str]) -> None:
    command = [str(POSTGRESQL_BIN / "pg_dump"), "--inserts", hardened.database_url]
    dump = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "planted" in dump  # the key's name
    assert not find(secrets, dump)
    with contextlib.closing(hardened.valkey.connect("")) as client:
        for name in client.scan_iter(count=1000):
            kind = client.type(name)
            read = {"hash": client.hgetall, "string": client.get, "stream": client.xrange}.get(kind)
            assert read is None or not find(secrets, repr(read(name))), name


@pytest.mark.parametrize("module", ["taskfleet_api", "taskfleet_api.migrate", "taskfleet_operator"])
def test_a_process_that_does_not_start_shows_none(module: str, tmp_path: Path) -> None:
    prefix = "TASKFLEET_OPERATOR_" if module == "taskfleet_operator" else "TASKFLEET_API_"
    values = {
        "BROKER_URL": f"amqp://user:{WRONG}@127.0.0.1:not-a-port//",
        "REDIS_URL": f"http://user:{WRONG}@127.0.0.1/0",
        "DATABASE_URL": f"oracle://user:{WRONG}@127.0.0.1/x",
        "MISTYPED": WRONG,
    }
    env = {**os.environ, **{prefix + name: value for name, value in values.items()}}
    command = [sys.executable, "-m", module]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=110, cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert "MISTYPED" in (done.stdout + done.stderr).upper()
    assert not find([WRONG], done.stdout + done.stderr)


async def test_what_the_operator_writes_into_conditions_and_events_shows_none() -> None:
    """The texts of a broker that cannot be used become the TaskQueue's conditions and events."""
    url = f"amqp://user:{WRONG}@127.0.0.1:{free_port()}//"
    settings = OperatorSettings(broker_url=url, redis_url=f"redis://:{WRONG}@127.0.0.1/0")  # type: ignore[arg-type]
    secret: dict[str, Any] = {"data": {"url": base64.b64encode(f"amqp://user:{WRONG}@h:port".encode()).decode()}}

    class Kube:
        async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
            return secret

    directory = BrokerDirectory(Kube(), settings)  # type: ignore[arg-type]
    from tests.unit.operator.builders import build_observed

    queue = build_observed({"broker": {"secretRef": {"name": "mine"}}}).queue
    resolution = await directory.resolve(queue)
    assert resolution.error
    shown = [resolution.error, *map(repr, (resolution, settings, BrokerAccess(url), Credentials(url, url)))]
    assert not find([WRONG], " ".join(shown))


def test_the_search_finds_what_it_looks_for() -> None:
    encoded = base64.b64encode(DATABASE_PASSWORD.encode()).decode()
    assert find([DATABASE_PASSWORD], f"postgresql://planted:{DATABASE_PASSWORD}@host") == [DATABASE_PASSWORD]
    assert find([DATABASE_PASSWORD], encoded) == [DATABASE_PASSWORD]
