"""API keys: only digests are kept, so that nobody who reads the database can call."""

import json
from typing import Any

from sqlalchemy import Row, delete, insert, select
from sqlalchemy.exc import IntegrityError

from taskfleet_api.records.engine import Database
from taskfleet_api.records.model import KeyRecord
from taskfleet_api.records.tables import api_keys
from taskfleet_api.records.texts import encode_json

__all__ = ["add_key", "delete_key", "fetch_key", "list_keys"]

_COLUMNS = [api_keys.c[name] for name in KeyRecord.__dataclass_fields__]


def _build_key(row: Row[Any]) -> KeyRecord:
    values: dict[str, Any] = dict(zip(KeyRecord.__dataclass_fields__, row, strict=True))
    values["scopes"] = tuple(json.loads(values["scopes"]))
    values["queues"] = None if values["queues"] is None else tuple(json.loads(values["queues"]))
    return KeyRecord(**values)


async def add_key(database: Database, key: KeyRecord, digest: bytes) -> bool:
    """Keep a key; False when its name is taken."""
    row = {
        "name": key.name,
        "digest": digest,
        "scopes": encode_json(list(key.scopes)),
        "queues": None if key.queues is None else encode_json(list(key.queues)),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
    }
    try:
        async with database.begin() as connection:
            await connection.execute(insert(api_keys).values(row))
    except IntegrityError:
        return False
    return True


async def fetch_key(database: Database, digest: bytes) -> KeyRecord | None:
    """The key with this digest."""
    async with database.connect() as connection:
        row = (await connection.execute(select(*_COLUMNS).where(api_keys.c.digest == digest))).one_or_none()
    return None if row is None else _build_key(row)


async def list_keys(database: Database) -> list[KeyRecord]:
    """All keys by name."""
    async with database.connect() as connection:
        return [_build_key(row) for row in await connection.execute(select(*_COLUMNS).order_by(api_keys.c.name))]


async def delete_key(database: Database, name: str) -> bool:
    """Forget a key."""
    async with database.begin() as connection:
        return (await connection.execute(delete(api_keys).where(api_keys.c.name == name))).rowcount > 0
