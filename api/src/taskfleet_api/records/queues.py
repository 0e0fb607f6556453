"""The copy of the queue registry and of the task catalogs, from which the API serves while Redis is empty or away."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Column, delete, select

from taskfleet_api.records.engine import Database
from taskfleet_api.records.tables import queues
from taskfleet_api.records.texts import chunked, encode_json
from taskfleet_api.records.upserting import build_upsert
from taskfleet_core.events import QueueRegistration

__all__ = ["delete_queues", "load_catalogs", "load_queues", "save_catalog", "save_queues"]


def _build_upsert(database: Database, column: Column[Any]) -> Any:
    return build_upsert(database, queues, queues.c.queue, column, queues.c.updated_at)


async def save_queues(database: Database, registrations: Sequence[QueueRegistration], now: datetime) -> None:
    """Create or replace registrations."""
    rows = [
        {"queue": item["queueName"], "registration": encode_json(item), "updated_at": now}
        for item in sorted(registrations, key=lambda item: item["queueName"])
    ]
    if rows:
        async with database.begin() as connection:
            await connection.execute(_build_upsert(database, queues.c.registration), rows)


async def load_queues(database: Database) -> list[QueueRegistration]:
    """Every registration."""
    query = select(queues.c.registration).where(queues.c.registration.is_not(None)).order_by(queues.c.queue)
    async with database.connect() as connection:
        texts = (await connection.execute(query)).scalars().all()
    return [cast(QueueRegistration, json.loads(text)) for text in texts]


async def delete_queues(database: Database, names: Sequence[str]) -> int:
    """Forget queues; how many were known."""
    known = 0
    async with database.begin() as connection:
        for part in chunked(names):
            known += (await connection.execute(delete(queues).where(queues.c.queue.in_(part)))).rowcount
    return known


async def save_catalog(database: Database, queue: str, catalog: Mapping[str, Any], now: datetime) -> None:
    """Create or replace a catalog."""
    row = {"queue": queue, "catalog": encode_json(dict(catalog)), "updated_at": now}
    async with database.begin() as connection:
        await connection.execute(_build_upsert(database, queues.c.catalog), [row])


async def load_catalogs(database: Database) -> dict[str, dict[str, Any]]:
    """Catalogs by queue."""
    query = select(queues.c.queue, queues.c.catalog).where(queues.c.catalog.is_not(None)).order_by(queues.c.queue)
    async with database.connect() as connection:
        rows = (await connection.execute(query)).all()
    return {queue: json.loads(text) for queue, text in rows}
