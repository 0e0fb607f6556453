"""The app on SQLite, without broker and without Redis: accepting and reading must work on the database alone."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tests.support.events import build_registration
from tests.support.processes import free_port

from taskfleet_api.app import Api, create_app
from taskfleet_api.records import open_records
from taskfleet_api.settings import Settings


@dataclass
class RunningApp:
    """An app whose lifespan has begun, and a client of it."""

    app: Api
    client: httpx.AsyncClient

    async def add_queue(self, name: str, **limits: Any) -> None:
        """Register a queue as the operator would."""
        await self.app.state.services.background.directory.register(build_registration(name, **limits))


def build_settings(tmp_path: Path, **overrides: Any) -> Settings:
    """Settings with nobody behind the broker and Redis addresses."""
    values: dict[str, Any] = {
        "database_url": f"sqlite:///{tmp_path / 'records.sqlite3'}",
        "redis_url": f"redis://127.0.0.1:{free_port()}/0",
        "broker_url": f"redis://127.0.0.1:{free_port()}/1",
        "shutdown_timeout_seconds": 0.02,  # nothing that is left would ever reach this broker
    }
    return Settings(**values | overrides)


@pytest.fixture(scope="module")
def overrides() -> dict[str, Any]:
    """Settings that a test module or a parametrized test changes."""
    return {}


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of the newest schema: a copy of it spares each app the way through all revisions."""
    path = tmp_path_factory.mktemp("migrated") / "records.sqlite3"

    async def migrate() -> None:
        records = await open_records(f"sqlite:///{path}")
        await records.migrate()
        await records.close()

    asyncio.run(migrate())
    return path


@asynccontextmanager
async def running_app(folder: Path, migrated: Path, overrides: dict[str, Any]) -> AsyncIterator[RunningApp]:
    """The app with one queue, `jobs`, and its database in the folder."""
    shutil.copy(migrated, folder)
    app = create_app(build_settings(folder, **overrides))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test", timeout=20) as client,
    ):
        made = RunningApp(app, client)
        await made.add_queue("jobs", pool="prefork", maxTaskSeconds=60)
        yield made


@pytest.fixture
async def running(tmp_path: Path, migrated: Path, overrides: dict[str, Any]) -> AsyncIterator[RunningApp]:
    """An app of the test's own."""
    async with running_app(tmp_path, migrated, overrides) as made:
        yield made


# For the tests of `shared`: they run in its event loop.
on_shared = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    tmp_path_factory: pytest.TempPathFactory, migrated: Path, overrides: dict[str, Any]
) -> AsyncIterator[RunningApp]:
    """One app for all tests of a module that leave nothing behind: starting one takes 0.1 s of CPU."""
    async with running_app(tmp_path_factory.mktemp("shared"), migrated, overrides) as made:
        yield made
