"""Addresses for people: what kind of server, where, never with credentials. Pure."""

import os
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["describe_address"]

NAMES = {
    "amqp": "RabbitMQ",
    "amqps": "RabbitMQ",
    "redis": "Valkey/Redis",
    "rediss": "Valkey/Redis",
    "postgresql": "PostgreSQL",
    "postgres": "PostgreSQL",
    "mysql": "MySQL",
    "mariadb": "MariaDB",
}


def describe_address(url: str) -> str:
    """Such as `RabbitMQ 10.0.0.7:5672` or `SQLite .taskfleet/taskfleet.sqlite3`."""
    scheme = url.partition(":")[0].partition("+")[0]
    if scheme == "sqlite":
        path = url.partition("///")[2]
        return f"SQLite {shorten_path(Path(path))}"
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{NAMES.get(scheme, scheme)} {parts.hostname or 'localhost'}{port}"
    except ValueError:
        return f"{NAMES.get(scheme, scheme)} (unreadable address)"


def shorten_path(path: Path) -> str:
    """Relative to the working folder where it is inside."""
    try:
        return os.fspath(path.relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(path)
