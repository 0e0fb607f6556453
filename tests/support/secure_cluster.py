"""Taskfleet on a cluster with TLS on every connection and a broker user for each queue. Clients verify all that they
reach, by the names of the Services, at addresses that only the node itself has."""

import base64
import json
import socket
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.support.certificates import Authority
from tests.support.cluster import RELEASE, VALUES, Cluster, Json
from tests.support.noted_runs import NOTES, Load
from tests.support.task_api import TaskApi
from tests.support.waiting import eventually_sync

__all__ = ["PARTS", "SecureCluster"]

PARTS = {"api": 8000, "rabbitmq": 5671, "valkey": 6379, "postgresql": 5432}
SSL_REQUEST = struct.pack("!ii", 8, 80877103)  # how a client of PostgreSQL asks for TLS
TIMEOUT_SECONDS = 10


class _ByName(httpx.HTTPTransport):
    """Verifies the server by a name, whatever address it is reached at."""

    def __init__(self, name: str, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, limits=httpx.Limits(max_keepalive_connections=0))
        self._name = name

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": self._name}
        return super().handle_request(request)


class SecureCluster(Cluster):
    """With certificates of its own authority in given secrets."""

    def __init__(self, environment: Mapping[str, str], namespace: str, folder: Path) -> None:
        super().__init__(environment, namespace)
        self.authority = Authority(folder / "authority")
        self.ca_file = self.authority.ca_file
        self._folder = folder

    def install(self, **values: Any) -> None:
        """Two API replicas, so that one is always there."""
        secrets = {part: f"{part}-tls" for part in PARTS}
        options = {
            "api": {**VALUES["api"], "replicas": 2},
            "rabbitmq": {**VALUES["rabbitmq"], "userPerQueue": True},
            "tls": {"enabled": True, "secrets": secrets, "authoritySecret": "authority"},
        }
        super().install(**{**options, **values})

    def prepare(self) -> None:
        """The chart finds the secrets that its values name."""
        self.write_certificates()

    # --- certificates -------------------------------------------------------------------------------------------

    def host_of(self, part: str) -> str:
        """The name by which the parts know a server."""
        return f"{RELEASE}-{part}.{self.namespace}.svc"

    def write_certificates(self) -> None:
        """Make a new certificate for each server, signed by the same authority, and put it into its secret."""
        for part in PARTS:
            host = self.host_of(part)
            names = [host, f"{host}.cluster.local", f"{RELEASE}-{part}", f"{RELEASE}-{part}.{self.namespace}"]
            certificate, key = self.authority.issue(part, *names, "localhost")
            self.put_secret(f"{part}-tls", {"tls.crt": certificate, "tls.key": key, "ca.crt": self.ca_file})
        self.put_secret("authority", {"ca.crt": self.ca_file})

    def put_secret(self, name: str, files: Mapping[str, Path]) -> None:
        """Apply a Secret."""
        data = {key: base64.b64encode(path.read_bytes()).decode() for key, path in files.items()}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        self.kubectl("apply", "-f", "-", text=json.dumps(manifest))

    @property
    def context(self) -> ssl.SSLContext:
        """Trusts the authority and no other."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    def address_of(self, part: str) -> tuple[str, int]:
        """Address and port of a server's Service."""
        return self.get("service", f"{RELEASE}-{part}")["spec"]["clusterIP"], PARTS[part]

    def fetch_serial(self, part: str, context: ssl.SSLContext | None = None) -> str:
        """The number of the certificate that a server shows now; raises ssl.SSLError when it is not trusted."""
        with socket.create_connection(self.address_of(part), timeout=TIMEOUT_SECONDS) as plain:
            if part == "postgresql":
                plain.sendall(SSL_REQUEST)
                assert plain.recv(1) == b"S"
            with (context or self.context).wrap_socket(plain, server_hostname=self.host_of(part)) as connection:
                certificate = connection.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])

    def find_serial(self, part: str) -> str | None:
        """The same, or None while the server is away."""
        try:
            return self.fetch_serial(part)
        except (OSError, AssertionError):
            return None

    # --- as in the plain installation ---------------------------------------------------------------------------

    def connect(self) -> None:
        """Find the API and wait until it answers over TLS."""
        address, port = self.address_of("api")
        self.api_url = f"https://{address}:{port}"
        headers = {"Authorization": f"Bearer {self.read_secret(f'{RELEASE}-admin-key', 'apiKey')}"}
        transport = _ByName(self.host_of("api"), self.context)
        client = httpx.Client(base_url=self.api_url, headers=headers, timeout=65, trust_env=False, transport=transport)
        self.http = self._exit.enter_context(client)
        self.api = TaskApi(self.http)
        eventually_sync(self._is_ready, 60, 0.3)

    def _is_ready(self) -> bool:
        try:
            return self.http.get("/readyz", timeout=3).status_code == 200
        except httpx.HTTPError:
            return False

    def read_notes(self, load: Load) -> list[Json]:
        """What the tasks noted, read within the store's own pod."""
        password = self.read_secret(f"{RELEASE}-valkey", "password")
        command = ["valkey-cli", "--tls", "--cacert", "/etc/taskfleet-tls/ca.crt", "--no-auth-warning", "-a", password]
        command += ["--raw", "LRANGE", f"{NOTES}{load.marker}", "0", "-1"]
        printed = self.kubectl("exec", f"statefulset/{RELEASE}-valkey", "--", *command)
        return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
