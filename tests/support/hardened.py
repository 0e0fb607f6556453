"""The product as the chart installs it with `tls.enabled`: TLS on every connection and a user for each role.

Users, rights and the servers' TLS settings are taken from the rendered chart; paths and ports alone are this machine's.
The store is Debian's Redis: the Valkey of the other tests has no TLS built in.
"""

import contextlib
import json
import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from taskfleet_core import wire
from taskfleet_core.addresses import add_authority
from taskfleet_core.topology import QueueSpec, open_topology
from tests.support.brokers import RabbitMQ
from tests.support.certificates import Authority
from tests.support.chart import Rendered, render_chart
from tests.support.databases import PostgreSQL
from tests.support.processes import ManagedProcess, free_port, start_process
from tests.support.stack import API_PREFIX, Stack, StackOptions, Worker

__all__ = ["HardenedStack", "hardened"]

HOST = "127.0.0.1"
RABBITMQ_HOME = "/var/lib/rabbitmq"  # the data folder within the chroot
REDIS_SERVER = "/usr/bin/redis-server"
# Words that stand nowhere else, so that a search for them finds what leaks.
ADMIN_KEY = "planted-admin-key-5f2c"
DATABASE_PASSWORD = "planted-database-9e41"
CALLBACK_SECRET = "whsec_cGxhbnRlZC1jYWxsYmFjay1zZWNyZXQtNzdhMQ=="
# Written by the chart with a meaning that only a pod has.
NOT_HERE = ("listeners.tcp", "total_memory", "vm_memory", "disk_free", "loopback_users", "log.")


class HardenedBroker(RabbitMQ):
    """RabbitMQ 4.3 with the chart's TLS listeners and users. `guest` is the test's own, on a plain port."""

    def __init__(self, rendered: Rendered, authority: Authority) -> None:
        self.tls_port, self.tls_management_port = free_port(), free_port()
        text = rendered.get("ConfigMap", "taskfleet-rabbitmq")["data"]["rabbitmq.conf"]
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("#", *NOT_HERE))]
        config = "\n".join(lines).replace("= 5671", f"= {HOST}:{self.tls_port}")
        config = config.replace("= 15671", f"= {self.tls_management_port}")
        for folder in ("/etc/taskfleet-tls", "/etc/taskfleet-users"):
            config = config.replace(folder, RABBITMQ_HOME)
        super().__init__("4.3", config=config)
        secret = rendered.get("Secret", "taskfleet-broker")["stringData"]
        definitions = json.loads(secret["definitions.json"])
        definitions["users"].append({"name": "guest", "password": "guest", "tags": ["administrator"]})
        rights = {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
        definitions["permissions"].append(rights)
        (self.data / "definitions.json").write_text(json.dumps(definitions))
        _copy_certificate(authority, "rabbitmq", self.data)
        for path in self.data.iterdir():
            os.chown(path, 999, 999) if os.geteuid() == 0 else None
        self._secret = secret

    def url_of(self, role: str, authority: Authority | None = None) -> str:
        """The URL that a role has from the chart, at this machine's address."""
        url = _move(self._secret[f"{role}Url"], self.tls_port)
        return add_authority(url, str(authority.ca_file)) if authority else url

    @property
    def tls_management_url(self) -> str:
        """The management API, as the chart names it."""
        return _move(self._secret["managementUrl"], self.tls_management_port)


class HardenedStore:
    """Redis with the chart's TLS settings and users."""

    def __init__(self, rendered: Rendered, authority: Authority) -> None:
        self.port = free_port()
        self._authority = authority
        self._secret = rendered.get("Secret", "taskfleet-valkey")["stringData"]
        self.data = Path(tempfile.mkdtemp(prefix="taskfleet-redis-tls-"))
        (self.data / "users.acl").write_text(self._secret["users.acl"] + "\n")
        _copy_certificate(authority, "valkey", self.data)
        text = rendered.get("ConfigMap", "taskfleet-valkey")["data"]["valkey.conf"]
        text = text.replace("tls-port 6379", f"tls-port {self.port}").replace("bind * -::*", f"bind {HOST}")
        for folder in ("/etc/taskfleet-tls", "/etc/taskfleet-users", "/data"):
            text = text.replace(folder, str(self.data))
        (self.data / "valkey.conf").write_text(text)
        self._process: ManagedProcess | None = None

    def start(self) -> None:
        """Start and wait until it answers over TLS."""
        command = [REDIS_SERVER, str(self.data / "valkey.conf")]
        self._process = start_process(command, log=self.data / "server.log", ready=self._answers)

    def stop(self) -> None:
        """Kill it and delete its data."""
        if self._process is not None:
            self._process.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    def url_of(self, role: str, authority: Authority | None = None) -> str:
        """The URL that a role has from the chart, at this machine's address."""
        url = _move(self._secret[f"{role}Url" if role else "url"], self.port)
        return add_authority(url, str(authority.ca_file)) if authority else url

    @property
    def url(self) -> str:
        """As the operator hands it to workers."""
        return self.url_of("worker")

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.data / "server.log"

    def connect(self, role: str) -> redis.Redis:
        """A client as one of the roles; the empty role may do everything."""
        return redis.Redis.from_url(self.url_of(role, self._authority), socket_timeout=5, decode_responses=True)

    def command(self, *words: str) -> bytes:
        """As in the other stacks: one command; a number as Redis writes it."""
        with contextlib.closing(self.connect("")) as client:
            answer = client.execute_command(*words)
        is_number = isinstance(answer, int) and not isinstance(answer, bool)
        return f":{answer}".encode() if is_number else str(answer).encode()

    def log_tails(self) -> list[tuple[str, str]]:
        """The end of the server's log, for the report of a failed test."""
        return [] if self._process is None else [("log of redis", self._process.output())]

    def _answers(self) -> bool:
        try:
            return self.command("PING") == b"True"
        except (redis.RedisError, OSError):
            return False


class HardenedDatabase(PostgreSQL):
    """PostgreSQL with the chart's settings for TLS and its rules for who may log in."""

    def __init__(self, rendered: Rendered, authority: Authority) -> None:
        super().__init__()
        (container,) = rendered.get("StatefulSet", "taskfleet-postgresql")["spec"]["template"]["spec"]["containers"]
        self._settings = [item for item in container["args"] if item.startswith(("ssl", "hba_file"))]
        (self.folder / "pg_hba.conf").write_text(
            rendered.get("ConfigMap", "taskfleet-postgresql")["data"]["pg_hba.conf"]
        )
        _copy_certificate(authority, "postgresql", self.folder)
        for path in self.folder.iterdir():
            shutil.chown(path, self.system_user, self.system_user) if os.geteuid() == 0 else None

    def command(self) -> list[str]:
        """The command line of the server."""
        options = [part for setting in self._settings for part in ("-c", setting)]
        here = [item.replace("/etc/taskfleet-tls", str(self.folder)) for item in options]
        return [*super().command(), *(item.replace("/etc/taskfleet", str(self.folder)) for item in here)]


class HardenedStack(Stack):
    """See the module. `url_of` is https, and every client verifies."""

    broker: HardenedBroker
    valkey: HardenedStore  # type: ignore[assignment]  # the same few methods

    def __init__(self) -> None:
        environment = {
            "auth_mode": "apiKey",
            "admin_key": ADMIN_KEY,
            "log_level": "debug",
            "callback_secrets": CALLBACK_SECRET,
        }
        super().__init__(StackOptions(environment=environment))
        for part in (self.broker, self.valkey, self.database):
            part.stop()  # never started: their folders go
        self.authority = Authority(self.directory / "authority")
        self.other_authority = Authority(self.directory / "other", "Another Authority")
        self.rendered = render_chart({"tls": {"enabled": True, "issuer": {"name": "authority"}}})
        for name in ("rabbitmq", "valkey", "postgresql", "api"):
            self.authority.issue(name, HOST, "localhost")
        self.broker = HardenedBroker(self.rendered, self.authority)
        self.valkey = HardenedStore(self.rendered, self.authority)
        self.database = HardenedDatabase(self.rendered, self.authority)
        self.context = ssl.create_default_context(cafile=str(self.authority.ca_file))

    def start(self, *, api: bool = True) -> "HardenedStack":
        """Start the servers and the API, which has a login of its own at the database."""
        super().start(api=False)
        self.database.execute(f"CREATE ROLE planted LOGIN SUPERUSER PASSWORD '{DATABASE_PASSWORD}'")
        self.database_url = f"postgresql://planted:{DATABASE_PASSWORD}@{HOST}:{self.database.port}/taskfleet"
        if api:
            self.add_api()
        return self

    @property
    def broker_url(self) -> str:
        """As the operator hands it to workers."""
        return self.broker.url_of("worker")

    def url_of(self, replica: int) -> str:
        """Address of one API replica."""
        return super().url_of(replica).replace("http://", "https://")

    def api_environment(self, port: int, **extra: str) -> dict[str, str]:
        """What the chart gives the API, at this machine's addresses."""
        folder = self.authority.ca_file.parent
        return super().api_environment(
            port,
            **{
                "database_url": f"{self.database_url}?sslmode=verify-full",
                "redis_url": self.valkey.url_of("api"),
                "broker_url": self.broker.url_of("api"),
                "broker_management_url": self.broker.tls_management_url,
                "ca_file": str(self.authority.ca_file),
                "tls_certificate_file": str(folder / "api.crt"),
                "tls_key_file": str(folder / "api.key"),
                **extra,
            },
        )

    def client(self, replica: int = 0, **options: Any) -> httpx.Client:
        """A client that trusts the authority."""
        return super().client(replica, verify=self.context, **options)

    def start_worker(self, queue: str, *, env: Mapping[str, str] | None = None, **options: Any) -> Worker:
        """A worker as the operator's Deployment starts it."""
        trusted = dict.fromkeys((wire.ENV_REDIS_CA_FILE, wire.ENV_BROKER_CA_FILE), str(self.authority.ca_file))
        return super().start_worker(queue, env={**trusted, **(env or {})}, **options)

    def register(self, name: str) -> None:
        """Write the queue's registration as the operator's user."""
        admin = self.valkey.command
        with contextlib.closing(self.valkey.connect("operator")) as operator:
            self.valkey.command = lambda *words: str(operator.execute_command(*words)).encode()  # type: ignore[method-assign]
            try:
                super().register(name)
            finally:
                self.valkey.command = admin  # type: ignore[method-assign]

    def read_logs(self) -> Iterator[tuple[str, str]]:
        """(name, text) of the log of every process."""
        for path in (*self.directory.glob("*.log"), self.broker.log, self.valkey.log, self.database.log):
            yield path.stem, path.read_text(errors="replace")

    def list_secrets(self) -> Sequence[str]:
        """Every password and key of this installation."""
        urls = [part.url_of(role) for part in (self.broker, self.valkey) for role in ("api", "operator", "worker")]
        return [
            ADMIN_KEY,
            DATABASE_PASSWORD,
            CALLBACK_SECRET.removeprefix("whsec_"),
            *(str(urlsplit(url).password) for url in urls),
        ]

    async def _declare(self, name: str) -> None:
        """As the operator does it: with its user, over TLS, policies by the management API."""
        options = self.queues[name]
        url = self.broker.url_of("operator", self.authority)
        topology = open_topology(url, management_url=self.broker.tls_management_url)
        try:
            spec = QueueSpec(name=name, delivery_limit=options.delivery_limit, dead_letter=True)
            degradations = await topology.ensure_queue(spec)
            assert not degradations, degradations
        finally:
            await topology.close()

    def _knows_queue(self, replica: int, name: str) -> bool:
        answer = self.client(replica).get(f"{API_PREFIX}/queues")
        return answer.status_code == 200 and name in answer.text

    def _serves(self, replica: int) -> bool:
        try:
            url = self.url_of(replica) + "/livez"
            return httpx.get(url, timeout=2, verify=self.context, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


def _copy_certificate(authority: Authority, name: str, folder: Path) -> None:
    """Under the names that a secret of cert-manager has."""
    source = authority.ca_file.parent
    for origin, target in ((f"{name}.crt", "tls.crt"), (f"{name}.key", "tls.key"), ("ca.crt", "ca.crt")):
        shutil.copy(source / origin, folder / target)
        (folder / target).chmod(0o600 if target == "tls.key" else 0o644)


def _move(url: str, port: int) -> str:
    parts = urlsplit(url)
    login = f"{parts.netloc.rsplit('@', 1)[0]}@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{login}{HOST}:{port}{parts.path}"


@pytest.fixture(scope="session")
def hardened() -> Iterator[HardenedStack]:
    """The hardened stack with one API and a queue `jobs` that has a worker."""
    if not Path(REDIS_SERVER).exists():
        pytest.skip("Debian's redis-server is not installed")
    stack = HardenedStack()
    try:
        stack.start()
        stack.add_queue("jobs")
        stack.start_worker("jobs")
        yield stack
    finally:
        stack.stop()
