"""What `taskfleet up` was asked for, and where it keeps its files."""

import os
from dataclasses import dataclass
from pathlib import Path

from taskfleet_core.addresses import is_amqp_url, is_redis_url, redact_url
from taskfleet_core.errors import InvalidInputError

__all__ = ["Folders", "UpOptions"]

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
DATABASE_SCHEMES = ("postgresql", "postgres", "mysql", "mariadb", "sqlite")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """The options of the command."""

    files: tuple[Path, ...] = ()
    broker_url: str | None = None
    broker_management_url: str | None = None
    broker_metrics_url: str | None = None
    database_url: str | None = None
    redis_url: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    data: Path = Path(".taskfleet")
    references: bool = False
    flower: bool = False
    live_view: bool = True
    max_workers: int | None = None  # of all queues together
    has_no_auth: bool = False  # others may reach the API, and that is meant

    def check(self) -> None:
        """Raises InvalidInputError naming the option and the fix."""
        if self.broker_url is not None and not (is_amqp_url(self.broker_url) or is_redis_url(self.broker_url)):
            raise InvalidInputError(f"--broker {redact_url(self.broker_url)}: write amqp://, amqps:// or redis://")
        if self.redis_url is not None and not is_redis_url(self.redis_url):
            raise InvalidInputError(f"--redis {redact_url(self.redis_url)}: write redis:// or rediss://")
        is_closed = os.environ.get("TASKFLEET_API_AUTH_MODE") == "apiKey"
        if self.host not in LOOPBACK and not is_closed and not self.has_no_auth:
            raise InvalidInputError(
                f"--host {self.host} lets others reach the API: set TASKFLEET_API_AUTH_MODE=apiKey and "
                "TASKFLEET_API_ADMIN_KEY, or say --no-auth if everybody may do everything"
            )
        scheme = (self.database_url or "sqlite").partition(":")[0].partition("+")[0]
        if scheme not in DATABASE_SCHEMES:
            raise InvalidInputError(
                f"--database: {scheme!r} is not known: write postgresql://, mysql:// or sqlite:///path"
            )

    @property
    def needs_valkey(self) -> bool:
        """Whether a store of our own must be started."""
        return self.redis_url is None and not (self.broker_url and is_redis_url(self.broker_url))


@dataclass(frozen=True, slots=True)
class Folders:
    """The data folder. Everything that must survive a stop is in it."""

    root: Path

    @property
    def lock(self) -> Path:
        """Held while a `taskfleet up` uses the folder."""
        return self.root / "lock"

    @property
    def database(self) -> Path:
        """The default database."""
        return self.root / "taskfleet.sqlite3"

    @property
    def valkey(self) -> Path:
        """Valkey's append-only file and port."""
        return self.root / "valkey"

    @property
    def logs(self) -> Path:
        """One file for each process that serves, one for each queue."""
        return self.root / "logs"

    def ensure(self) -> None:
        """Create what is missing. Raises InvalidInputError when that is impossible."""
        try:
            for folder in (self.root, self.valkey, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            ignore = self.root / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise InvalidInputError(f"--data {self.root}: cannot be written: {error.strerror}") from error
