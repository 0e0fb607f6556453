"""Real databases for tests: PostgreSQL and MariaDB (Debian's packages, as their own users) and SQLite files.

Each server has its own port and data folder; `kill()` is kill -9, `restart()` starts again on the same data.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.processes import ManagedProcess, descendants_of, free_port, start_process
from tests.support.waiting import eventually_sync

__all__ = [
    "DatabaseServer",
    "MariaDB",
    "PostgreSQL",
    "database_url",
    "mariadb",
    "mariadb_url",
    "postgresql",
    "postgresql_url",
    "sqlite_url",
]

POSTGRESQL_BIN = Path("/usr/lib/postgresql/15/bin")
USER = PASSWORD = DATABASE = "taskfleet"


def _as_user(user: str, command: Sequence[str]) -> list[str]:
    """Database servers refuse to run as root."""
    return ["runuser", "-u", user, "--", *command] if os.getuid() == 0 else list(command)


def _run(command: Sequence[str], cwd: Path, text: str | None = None) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, cwd=cwd, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")
    return done.stdout


class DatabaseServer:
    """What both servers share: a port, a data folder of the server's user, start, kill -9, restart, stop."""

    system_user: str

    def __init__(self, *, fsync: bool = True) -> None:
        self.fsync = fsync
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"taskfleet-{self.system_user}-"))
        self.log = self.folder / "server.log"
        self.data = self.folder / "data"
        self.environment: dict[str, str] = {}  # of the server process
        self._process: ManagedProcess | None = None
        self._names = itertools.count(1)
        self.data.mkdir()
        if os.getuid() == 0:
            user = pwd.getpwnam(self.system_user)
            for path in (self.folder, self.data):
                os.chown(path, user.pw_uid, user.pw_gid)

    def build_url(self, database: str) -> str:
        """URL of a database of this server, with credentials."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The command line of the server."""
        raise NotImplementedError

    def initialise(self) -> None:
        """Make the data folder."""
        raise NotImplementedError

    def execute(self, sql: str, url: str | None = None) -> str:
        """Run SQL as administrator, in the database of the URL if given; returns the bare output."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """URL of the database that always exists."""
        return self.build_url(DATABASE)

    @property
    def is_running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and self._process.is_running

    @property
    def pids(self) -> list[int]:
        """The server process and all its children."""
        return [] if self._process is None else [self._process.pid, *descendants_of(self._process.pid)]

    def start(self) -> None:
        """Make the data if needed, start, and return once queries are answered."""
        if not any(self.data.iterdir()):
            self.initialise()
        self._process = start_process(
            _as_user(self.system_user, self.command()),
            env=self.environment,
            cwd=self.folder,
            log=self.log,
            ready=self._answers,
            timeout_seconds=60,
        )
        self.ensure_database(DATABASE)

    def kill(self) -> None:
        """kill -9 of the server and all its children."""
        if self._process is None:
            return
        _, *children = self.pids
        self._process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        eventually_sync(lambda: not any(Path(f"/proc/{child}/cmdline").exists() for child in children))

    def restart(self) -> None:
        """Start again on the same data and port."""
        self.start()

    def stop(self) -> None:
        """Stop and delete the data."""
        if self._process is not None:
            self._process.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.popen.wait(timeout=10)
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def ensure_database(self, name: str) -> None:
        """Create the database if it does not exist."""
        raise NotImplementedError

    def create_database(self, template: str | None = None) -> str:
        """Create a fresh database (on PostgreSQL, as a copy of `template`); returns its URL."""
        name = f"test_{os.getpid()}_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return self.build_url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database made by `create_database`."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rsplit('/', 1)[1]}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                pass
            return self.execute("SELECT 1").strip() == "1"
        except (OSError, RuntimeError):
            return False


class PostgreSQL(DatabaseServer):
    """PostgreSQL 15, user taskfleet/taskfleet (superuser)."""

    system_user = "postgres"

    def build_url(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        arguments = ["-D", str(self.data), "-U", USER, "--pwfile", str(secret), "-A", "scram-sha-256", "-E", "UTF8"]
        command = [str(POSTGRESQL_BIN / "initdb"), *arguments, "--locale", "C.UTF-8", "--no-sync"]
        _run(_as_user(self.system_user, command), self.folder)

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "fsync": "on" if self.fsync else "off",
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(POSTGRESQL_BIN / "postgres"), "-D", str(self.data), *settings]

    def execute(self, sql: str, url: str | None = None) -> str:
        command = ["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", url or self.build_url("postgres")]
        return _run([*command, "-c", sql], self.folder)

    def ensure_database(self, name: str) -> None:
        if not self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'").strip():
            self.execute(f"CREATE DATABASE {name}")

    def drop_database(self, url: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {url.rsplit('/', 1)[1]} WITH (FORCE)")


class MariaDB(DatabaseServer):
    """MariaDB 10.11, user taskfleet/taskfleet with every right."""

    system_user = "mysql"

    def build_url(self, database: str) -> str:
        return f"mysql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def initialise(self) -> None:
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={self.data}", "--skip-test-db"]
        _run(_as_user(self.system_user, command), self.folder)
        setup = self.folder / "setup.sql"
        setup.write_text(
            f"CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION;\n"
        )
        setup.chmod(0o644)

    def command(self) -> list[str]:
        return [
            "mariadbd",
            "--no-defaults",
            f"--datadir={self.data}",
            f"--socket={self.folder / 'socket'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            f"--init-file={self.folder / 'setup.sql'}",
            f"--innodb-flush-log-at-trx-commit={1 if self.fsync else 2}",
            "--innodb-buffer-pool-size=128M",
            "--max-connections=200",
        ]

    def execute(self, sql: str, url: str | None = None) -> str:
        command = ["mariadb", "--no-defaults", "-N", "-B", "-h", "127.0.0.1", "-P", str(self.port), "-u", USER]
        return _run(
            [*command, f"--password={PASSWORD}", "-e", sql, *([url.rsplit("/", 1)[1]] if url else [])], self.folder
        )

    def ensure_database(self, name: str) -> None:
        self.execute(f"CREATE DATABASE IF NOT EXISTS {name}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One PostgreSQL for the whole session."""
    if not POSTGRESQL_BIN.exists():
        pytest.skip("PostgreSQL 15 is not installed")
    server = PostgreSQL()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """One MariaDB for the whole session."""
    if shutil.which("mariadbd") is None:
        pytest.skip("MariaDB is not installed")
    server = MariaDB()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> Iterator[str]:
    """A fresh database on PostgreSQL."""
    url = postgresql.create_database()
    yield url
    postgresql.drop_database(url)


@pytest.fixture
def mariadb_url(mariadb: MariaDB) -> Iterator[str]:
    """A fresh database on MariaDB."""
    url = mariadb.create_database()
    yield url
    mariadb.drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh SQLite file."""
    return f"sqlite:///{tmp_path / 'records.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh database on each of the three."""
    return str(request.getfixturevalue(f"{request.param}_url"))
