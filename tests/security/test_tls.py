"""With TLS and a user for each role, as the chart sets them up, all works, and what is not verified is refused."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aio_pika
import httpx
import pytest
import redis
from tests.support.certificates import Authority
from tests.support.hardened import HardenedStack
from tests.support.processes import start_process
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync

from taskfleet_api.live import LiveStore
from taskfleet_api.records import open_records
from taskfleet_core.addresses import add_authority, parse_amqp_url
from taskfleet_core.amqp import AmqpSession, connect_amqp
from taskfleet_core.errors import BrokerUnavailableError, RecordsUnavailableError, StoreUnavailableError
from taskfleet_core.statistics import open_statistics

pytestmark = pytest.mark.timeout(120, func_only=True)


@pytest.fixture(scope="module")
def api(hardened: HardenedStack) -> TaskApi:
    return TaskApi(hardened.client())


def test_tasks_run_and_are_recorded(api: TaskApi) -> None:
    assert api.run("jobs", "jobs.add", 1, 2)["result"] == 3


def test_a_retry_with_a_delay_goes_through_the_broker(api: TaskApi, tmp_path: Path) -> None:
    assert api.run("jobs", "jobs.flaky", str(tmp_path / "runs"), 2)["result"] == 2


def test_a_cancellation_reaches_the_worker(api: TaskApi) -> None:
    task = api.submit("jobs", "jobs.sleep", 60)
    api.wait(task["id"], "running")
    api.request("DELETE", f"/tasks/{task['id']}", params={"terminate": "true"})
    assert api.wait(task["id"])["state"] == "cancelled"


def test_dead_letters_are_read_by_the_api(hardened: HardenedStack, api: TaskApi) -> None:
    hardened.add_queue("mortal")
    task = api.submit("mortal", "jobs.add", 1, 1)

    async def reject() -> None:
        url = hardened.broker.url  # guest's, on the plain port: what a broken worker would do
        async with await aio_pika.connect(url, timeout=10) as connection:
            queue = await (await connection.channel()).get_queue("mortal", ensure=False)
            message = await queue.get(timeout=10)
            assert message is not None
            await message.reject(requeue=False)

    eventually_sync(lambda: api.get(task["id"])["state"] == "queued")
    asyncio.run(reject())
    assert api.wait(task["id"])["state"] in ("failed", "dead")


def test_every_connection_is_encrypted_and_has_the_user_of_its_role(hardened: HardenedStack) -> None:
    def list_connections() -> set[tuple[str, bool]]:
        rows = hardened.broker.management("GET", "/api/connections")
        return {(row["user"], row["ssl"]) for row in rows if row.get("user") not in (None, "guest")}

    wanted = {("taskfleet-api", True), ("taskfleet-worker", True)}
    eventually_sync(lambda: list_connections() >= wanted, 20, interval_seconds=0.5)
    assert all(encrypted for _, encrypted in list_connections())
    with contextlib.closing(hardened.valkey.connect("")) as client:
        assert {row["user"] for row in client.client_list()} >= {"api", "worker"}
    activity = "pg_stat_ssl JOIN pg_stat_activity USING (pid)"
    sql = f"SELECT DISTINCT ssl FROM {activity} WHERE application_name = 'taskfleet-api'"
    assert hardened.database.execute(sql).split() == ["t"]


def test_plain_text_is_not_served(hardened: HardenedStack) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(hardened.base_url.replace("https", "http") + "/livez", timeout=5, trust_env=False)
    plain = redis.Redis(port=hardened.valkey.port, socket_timeout=5)
    with contextlib.closing(plain), pytest.raises(redis.RedisError):
        plain.ping()
    with pytest.raises(RuntimeError, match="no encryption"):
        hardened.database.execute("SELECT 1", hardened.database_url + "?sslmode=disable")


async def open_broker(hardened: HardenedStack, authority: Authority) -> None:
    (address,) = parse_amqp_url(hardened.broker.url_of("api", authority))
    session = await connect_amqp(AmqpSession, address, 10)
    await session.close()


async def open_management(hardened: HardenedStack, authority: Authority) -> None:
    url = hardened.broker.url_of("api", authority)
    reader = open_statistics(url, hardened.broker.tls_management_url, "http://127.0.0.1:9")
    try:
        await reader.fetch(["jobs"])
        problem = reader.explain("jobs")
        if problem is not None:
            raise BrokerUnavailableError(problem.detail)
    finally:
        await reader.close()


async def open_store(hardened: HardenedStack, authority: Authority) -> None:
    store = LiveStore(hardened.valkey.url_of("api", authority))
    try:
        await store.fetch_heartbeats()
    finally:
        await store.close()


async def open_database(hardened: HardenedStack, authority: Authority) -> None:
    url = add_authority(f"{hardened.database_url}?sslmode=verify-full", str(authority.ca_file))
    records = await open_records(url)
    try:
        await records.ping()
    finally:
        await records.close()


Opening = Callable[[HardenedStack, Authority], Awaitable[None]]
PARTS = [
    pytest.param(open_broker, BrokerUnavailableError, "certificate verify failed", id="broker"),
    pytest.param(open_management, BrokerUnavailableError, "certificate verify failed", id="management"),
    pytest.param(open_store, StoreUnavailableError, "certificate verify failed", id="store"),
    pytest.param(open_database, RecordsUnavailableError, "SSLCertVerificationError", id="database"),
]


@pytest.mark.parametrize(("opening", "error", "text"), PARTS)
def test_a_server_of_another_authority_is_refused_in_plain_words(
    hardened: HardenedStack, opening: Opening, error: type[Exception], text: str
) -> None:
    asyncio.run(opening(hardened, hardened.authority))
    with pytest.raises(error, match=text):
        asyncio.run(opening(hardened, hardened.other_authority))


@pytest.mark.parametrize("variable", ["TASKFLEET_BROKER_CA_FILE", "TASKFLEET_REDIS_CA_FILE"])
def test_a_worker_says_that_it_refuses_another_authority(hardened: HardenedStack, variable: str) -> None:
    queue = f"distrusted-{variable.split('_')[1].lower()}"
    hardened.add_queue(queue)
    worker = hardened.start_worker(queue, env={variable: str(hardened.other_authority.ca_file)}, wait=False)
    log = worker.process.log
    assert log is not None
    eventually_sync(lambda: "certificate verify failed" in log.read_text(), 60, interval_seconds=0.2)
    hardened.stop_workers(queue, kill=True)


FORWARD = """
import asyncio, sys
port = int(sys.argv[1])
async def pipe(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
async def serve(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", port)
    await asyncio.gather(pipe(reader, there[1]), pipe(there[0], writer))
async def main():
    async with await asyncio.start_server(serve, "127.0.0.2", port) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def test_a_certificate_of_another_host_is_refused(hardened: HardenedStack) -> None:
    """127.0.0.2 leads to the same broker, whose certificate does not name it."""
    port = hardened.broker.tls_port
    forward = start_process([sys.executable, "-c", FORWARD, str(port)], ready=lambda: listens("127.0.0.2", port))
    try:
        url = hardened.broker.url_of("worker").replace("127.0.0.1", "127.0.0.2")
        (address,) = parse_amqp_url(add_authority(url, str(hardened.authority.ca_file)))
        with pytest.raises(BrokerUnavailableError, match="not valid for"):
            asyncio.run(connect_amqp(AmqpSession, address, 10))
        names = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
        worker = hardened.start_worker("jobs", env=dict.fromkeys(names, url), wait=False)
        eventually_sync(lambda: "not valid for" in worker.process.output(20_000), 60, interval_seconds=0.2)
        worker.process.kill()
        hardened.workers.remove(worker)
    finally:
        forward.kill()


def listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False
