"""A real Kubernetes API for tests: etcd and kube-apiserver on free ports in a folder of their own, without any node.

RBAC is on, the TaskQueue CRD is applied, and every write is audited (of ServiceAccounts also every read). The
binaries are those of the one-node cluster.
"""

import base64
import contextlib
import functools
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ManagedProcess, free_port, start_process
from tests.support.waiting import eventually_sync

__all__ = ["ROOT", "ApiError", "ControlPlane", "control_plane", "controllers", "find_binaries"]

ROOT = Path(__file__).resolve().parents[2]
CRDS = ROOT / "k8s/crd"
NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "helm")
BUILD_SECONDS = 1800

AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: ["system:apiserver"]}
- {level: Metadata, userGroups: ["system:serviceaccounts"]}
- {level: None, verbs: [get, list, watch]}
- {level: Metadata}
"""


class ApiError(AssertionError):
    """The API server refused a call of a test."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@functools.cache
def find_binaries() -> Path:
    """The folder of the one-node cluster's binaries; builds them where Go is there, else skips saying why."""
    home = Path(os.environ.get("ONE_NODE_CLUSTER_HOME", Path.home() / ".cache/one-node-cluster"))
    for folder in sorted(home.glob("bin-*"), reverse=True):
        if all((folder / name).exists() for name in NEEDED):
            return folder
    if shutil.which("go") is None:
        pytest.skip("the Kubernetes API tests need Go >= 1.25 (to build etcd and kube-apiserver) or a built cluster")
    command = [str(ROOT / "hack/cluster/cluster"), "build-binaries"]
    built = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    for folder in sorted(home.glob("bin-*"), reverse=True):
        if all((folder / name).exists() for name in NEEDED):
            return folder
    pytest.skip(f"the Kubernetes binaries could not be built: {built.stderr[-300:]}")


class ControlPlane:
    """One control plane. `kubeconfig` is the administrator's."""

    def __init__(self) -> None:
        self.binaries = find_binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="taskfleet-control-plane-"))
        self.port, self._etcd_port, self._peer_port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.kubeconfig = self.folder / "admin.kubeconfig"
        self.audit_log = self.folder / "audit.log"
        self._etcd: ManagedProcess | None = None
        self._api_server: ManagedProcess | None = None
        self._controllers: ManagedProcess | None = None
        self._make_certificates()
        (self.folder / "audit-policy.yaml").write_text(AUDIT_POLICY)
        admin = {"client-certificate": str(self._pki("admin.crt")), "client-key": str(self._pki("admin.key"))}
        self._write_kubeconfig(self.kubeconfig, admin, self.port)
        self.ssl_context = ssl.create_default_context(cafile=str(self._pki("ca.crt")))
        self.ssl_context.load_cert_chain(str(self._pki("admin.crt")), str(self._pki("admin.key")))

    def start(self) -> None:
        """Start all and apply the CRD."""
        peer, client = f"http://127.0.0.1:{self._peer_port}", f"http://127.0.0.1:{self._etcd_port}"
        command = [str(self.binaries / "etcd"), "--data-dir", str(self.folder / "etcd"), "--unsafe-no-fsync"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--log-level", "warn"]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"default={peer}"]
        self._etcd = start_process(command, log=self.folder / "etcd.log")
        self.start_api_server()
        self.kubectl("apply", "--server-side", "-f", str(CRDS))
        self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        eventually_sync(lambda: self.find("/apis/taskfleet.dev/v1alpha1/taskqueues"), 30)
        eventually_sync(lambda: "/apis/taskfleet.dev/v1alpha1" in str(self.find("/openapi/v3")), 30)
        shutil.rmtree(self.folder / "kubectl-cache", ignore_errors=True)  # it knows nothing of the CRD yet

    def start_api_server(self) -> None:
        """Start kube-apiserver, also after `kill_api_server()`, on the same port and data."""
        command = [str(self.binaries / "kube-apiserver"), *self._api_server_flags()]
        self._api_server = start_process(
            command, log=self.folder / "kube-apiserver.log", ready=self._is_ready, timeout_seconds=90
        )

    def kill_api_server(self) -> None:
        """kill -9."""
        assert self._api_server is not None
        self._api_server.kill()

    def start_controllers(self) -> None:
        """Start the garbage collector and the controllers of Deployments and ReplicaSets."""
        if self._controllers is not None:
            return
        command = [str(self.binaries / "kube-controller-manager"), "--kubeconfig", str(self.kubeconfig)]
        command += ["--leader-elect=false", "--secure-port", str(free_port()), "--bind-address", "127.0.0.1"]
        command += ["--controllers", "garbage-collector-controller,deployment-controller,replicaset-controller"]
        command += ["--cert-dir", str(self.folder / "controllers")]
        self._controllers = start_process(command, log=self.folder / "kube-controller-manager.log")

    def stop_controllers(self) -> None:
        """Stop them."""
        if self._controllers is not None:
            self._controllers.kill()
            self._controllers = None

    def stop(self) -> None:
        """Stop all and delete the data."""
        self.stop_controllers()
        for process in (self._api_server, self._etcd):
            if process is not None:
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kubectl(self, *args: str, stdin: str | None = None, timeout_seconds: float = 60) -> str:
        """Run kubectl as administrator; its output. Raises AssertionError with what it says when it fails."""
        done = self.try_kubectl(*args, stdin=stdin, timeout_seconds=timeout_seconds)
        assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr or done.stdout}"
        return done.stdout

    def try_kubectl(
        self, *args: str, stdin: str | None = None, timeout_seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """The same, whatever the outcome."""
        command = [str(self.binaries / "kubectl"), "--kubeconfig", str(self.kubeconfig)]
        command += ["--cache-dir", str(self.folder / "kubectl-cache"), *args]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """One raw call as administrator; raises ApiError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", content_type)
        request.add_header("User-Agent", "test")
        try:
            with urllib.request.urlopen(request, timeout=20, context=self.ssl_context) as response:
                answer: dict[str, Any] = json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, error.read().decode(errors="replace")) from None
        return answer

    def find(self, path: str) -> dict[str, Any] | None:
        """GET, or None when it does not exist."""
        try:
            return self.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def make_namespace(self, prefix: str = "test") -> str:
        """A fresh namespace; they all go with the control plane."""
        name = f"{prefix}-{uuid.uuid4().hex[:8]}"
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name

    def make_account(self, namespace: str, name: str) -> str:
        """A ServiceAccount without any right; returns a token."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.request("POST", path, {"metadata": {"name": name}})
        answer = self.request("POST", f"{path}/{name}/token", {"spec": {"expirationSeconds": 7200}})
        token: str = answer["status"]["token"]
        return token

    def write_kubeconfig(self, name: str, token: str | None = None, port: int | None = None) -> Path:
        """A kubeconfig for a token (default: the administrator), through `port` (default: the API server's own)."""
        path = self.folder / f"{name}-{uuid.uuid4().hex[:8]}.kubeconfig"
        admin = {"client-certificate": str(self._pki("admin.crt")), "client-key": str(self._pki("admin.key"))}
        self._write_kubeconfig(path, {"token": token} if token else admin, port or self.port)
        return path

    def read_audit(self, namespace: str) -> list[dict[str, Any]]:
        """All audited requests in a namespace so far, in the order of their completion."""
        entries = []
        if not self.audit_log.exists():
            return []
        for line in self.audit_log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):  # the last line may be half written
                entry = json.loads(line)
                done = entry["stage"] == "ResponseComplete" or entry["verb"] == "watch"
                if done and (entry.get("objectRef") or {}).get("namespace") == namespace:
                    entries.append(entry)
        return entries

    def log_tails(self) -> list[tuple[str, str]]:
        """The end of the API server's log, for the report of a failed test."""
        return [] if self._api_server is None else [("log of kube-apiserver", self._api_server.output(3000))]

    def _is_ready(self) -> bool:
        try:
            request = urllib.request.Request(self.url + "/readyz")
            with urllib.request.urlopen(request, timeout=2, context=self.ssl_context) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _api_server_flags(self) -> list[str]:
        values = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
            "bind-address": "127.0.0.1",
            "secure-port": self.port,
            "advertise-address": "127.0.0.1",
            "endpoint-reconciler-type": "none",
            "service-cluster-ip-range": "10.97.0.0/24",
            "authorization-mode": "RBAC",
            # On OpenShift: whoever changes owners needs the right to delete.
            "enable-admission-plugins": "OwnerReferencesPermissionEnforcement",
            "client-ca-file": self._pki("ca.crt"),
            "tls-cert-file": self._pki("server.crt"),
            "tls-private-key-file": self._pki("server.key"),
            "service-account-key-file": self._pki("accounts.key"),
            "service-account-signing-key-file": self._pki("accounts.key"),
            "service-account-issuer": "https://kubernetes.default.svc",
            "audit-policy-file": self.folder / "audit-policy.yaml",
            "audit-log-path": self.audit_log,
            "enable-priority-and-fairness": "false",
            # Seldom-used APIs cost start-up time.
            "profiling": "false",
        }
        return [f"--{name}={value}" for name, value in values.items()]

    def _pki(self, name: str) -> Path:
        return self.folder / "pki" / name

    def _make_certificates(self) -> None:
        self._pki("").mkdir()
        self._run_openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(self._pki("accounts.key")))
        self._run_openssl(*_new_key(self._pki("ca.key")), "-x509", "-days", "2", "-subj", "/CN=test-ca",
                          "-out", str(self._pki("ca.crt")))  # fmt: skip
        self._issue("server", "/CN=kube-apiserver", "DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1")
        self._issue("admin", "/O=system:masters/CN=admin", "DNS:admin")

    def _issue(self, name: str, subject: str, names: str) -> None:
        request, extensions = self._pki(f"{name}.csr"), self._pki(f"{name}.ext")
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth,clientAuth\n")
        self._run_openssl(*_new_key(self._pki(f"{name}.key")), "-subj", subject, "-out", str(request))
        self._run_openssl(
            "x509", "-req", "-days", "2", "-in", str(request), "-out", str(self._pki(f"{name}.crt")),
            "-CA", str(self._pki("ca.crt")), "-CAkey", str(self._pki("ca.key")), "-CAcreateserial",
            "-extfile", str(extensions),
        )  # fmt: skip

    @staticmethod
    def _run_openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], check=True, capture_output=True, timeout=30)

    def _write_kubeconfig(self, path: Path, user: dict[str, str], port: int) -> None:
        authority = base64.b64encode(self._pki("ca.crt").read_bytes()).decode()
        cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(config))
        path.chmod(0o600)


def _new_key(path: Path) -> list[str]:
    return ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path)]


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """One control plane for the whole session: every test makes its own namespace."""
    plane = ControlPlane()
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def controllers(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """The control plane with the garbage collector and the Deployment controllers, for this test only."""
    control_plane.start_controllers()
    yield control_plane
    control_plane.stop_controllers()
