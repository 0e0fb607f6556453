"""Finds the references' routers for the app and keeps their tables alive while it runs."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from taskfleet_api.references import async_tasks, crud, delay, send_message, submit_data
from taskfleet_api.references.migrating import apply_migrations
from taskfleet_api.references.outcomes import RowContract, RowTasks
from taskfleet_api.references.rows import Rows
from taskfleet_api.tasks.service import Services
from taskfleet_core.ending import end_tasks

__all__ = ["find_references", "run_references"]

REFERENCES: dict[str, APIRouter] = {
    "000": send_message.router,
    "001": delay.router,
    "002": submit_data.router,
    "003": crud.router,
    "004": async_tasks.router,
}
_CONTRACTS: tuple[RowContract, ...] = (crud.CONTRACT, async_tasks.CONTRACT)


def find_references(names: Iterable[str]) -> list[APIRouter]:
    """The routers of the named references, each once. Their routes have to come before `/api/v1/tasks/{id}`.

    Raises ValueError for a name that is no reference.
    """
    wanted = tuple(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in REFERENCES]
    if unknown:
        raise ValueError(f"no such reference: {', '.join(unknown)}; there are {', '.join(REFERENCES)}")
    return [REFERENCES[name] for name in wanted]


@asynccontextmanager
async def run_references(app: FastAPI, services: Services) -> AsyncIterator[None]:
    """Migrate the references' tables and keep them in step with their tasks until the block ends."""
    names = services.settings.references
    contracts = [contract for contract in _CONTRACTS if contract.reference in names]
    app.state.references = {}
    if not contracts:
        yield
        return
    database = services.records.database
    await apply_migrations(database)
    tasks = [RowTasks(contract, Rows(database, contract.table), services) for contract in contracts]
    app.state.references = {item.contract.reference: item for item in tasks}
    loops = [asyncio.create_task(item.keep_in_step(), name=f"reference-{item.contract.reference}") for item in tasks]
    try:
        yield
    finally:
        await end_tasks(loops)
