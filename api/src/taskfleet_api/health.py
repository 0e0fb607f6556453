"""`/livez` and `/readyz`: whether the process runs, and which dependency is down."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel

from taskfleet_api.requests import Json, ServicesOf
from taskfleet_api.tasks.service import Services
from taskfleet_core.errors import UnavailableError

__all__ = ["check_dependencies", "router"]

CHECK_SECONDS = 2.0
router = APIRouter(tags=["health"])


class Check(BaseModel):
    """One dependency or background loop."""

    up: bool
    detail: str | None = None


class Readiness(BaseModel):
    """`ready`, `degraded` (tasks are accepted, but something else is down), `unready` or `stopping`."""

    status: str
    checks: dict[str, Check]


class Liveness(BaseModel):
    """The process answers."""

    status: str


@router.get("/livez", operation_id="livez", summary="Does the process run?", response_model=Liveness)
async def livez() -> dict[str, str]:
    """The event loop turns: nothing else is asked."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Can tasks be accepted?",
    response_class=Json,
    responses={200: {"model": Readiness}, 503: {"model": Readiness, "description": "No tasks can be accepted."}},
)
async def readyz(services: ServicesOf) -> Json:
    """Names what is down. Without the broker or Redis tasks are still accepted: that is `degraded`, not unready."""
    checks = await check_dependencies(services)
    if services.streams.closing:
        status = "stopping"
    elif not checks["database"]["up"]:
        status = "unready"
    else:
        status = "ready" if all(check["up"] for check in checks.values()) else "degraded"
    code = 200 if status in ("ready", "degraded") else 503
    return Json(msgspec.json.encode({"status": status, "checks": checks}), code)


async def check_dependencies(services: Services) -> dict[str, dict[str, Any]]:
    """Ask database, store and broker, and add the background loops that fail."""
    database, store = await asyncio.gather(_ask(services.records.ping), _ask(services.live.ping))
    publisher = services.publisher
    broker: dict[str, Any] = {"up": publisher.connected}
    if not publisher.connected:
        broker["detail"] = "not connected; accepted tasks wait in the database"
    elif publisher.blocked:
        broker = {"up": False, "detail": f"takes no messages: {publisher.blocked}"}
    checks = {"database": database, "store": store, "broker": broker}
    for name, health in services.background.health().items():
        if not health.healthy:
            checks[f"loop:{name}"] = {"up": False, "detail": health.last_error or "no success for too long"}
    return checks


async def _ask(ping: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await ping()
    except (UnavailableError, TimeoutError) as error:
        return {"up": False, "detail": str(error) or f"no answer within {CHECK_SECONDS:g} s"}
    return {"up": True}
