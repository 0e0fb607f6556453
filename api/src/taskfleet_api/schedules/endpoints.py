"""`/api/v1/schedules`."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from taskfleet_api.authentication import get_principal
from taskfleet_api.background import parse_spec
from taskfleet_api.receiving import receive_model
from taskfleet_api.records import ScheduleRecord
from taskfleet_api.requests import Json, ServicesOf, problem_responses
from taskfleet_api.schedules.schemas import (
    ID_PATTERN,
    SCHEDULE_EXAMPLE,
    NewScheduleInput,
    ScheduleInput,
    ScheduleModel,
    SchedulePage,
)
from taskfleet_api.schedules.service import TemplateText
from taskfleet_api.tasks.rendering import raw, render_moment

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/schedules", tags=["schedules"])
Id = Annotated[str, Path(pattern=ID_PATTERN, max_length=128, examples=["daily-report"])]
BODY_PROBLEMS = problem_responses(400, 404, 408, 409, 413, 415, 422)


def _request_body(model: str) -> dict[str, Any]:
    content = {"schema": {"$ref": f"#/components/schemas/{model}"}, "examples": {"cron": {"value": SCHEDULE_EXAMPLE}}}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


@router.get(
    "",
    operation_id="listSchedules",
    summary="List the schedules",
    response_class=Json,
    responses={200: {"model": SchedulePage}, **problem_responses(422)},
)
async def list_schedules(
    services: ServicesOf,
    after: Annotated[str | None, Query(pattern=ID_PATTERN, max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Json:
    """Periodic tasks by id."""
    found = await services.schedules.list(after, limit + 1)
    page = found[:limit]
    next_after = page[-1].id if len(found) > limit else None
    return Json(msgspec.json.encode({"items": [_document(item) for item in page], "next_after": next_after}))


@router.post(
    "",
    operation_id="createSchedule",
    summary="Create a schedule",
    status_code=201,
    response_class=Json,
    responses={201: {"model": ScheduleModel}, **BODY_PROBLEMS},
    openapi_extra=_request_body("NewScheduleInput"),
)
async def create_schedule(request: Request, services: ServicesOf) -> Json:
    """Create a periodic task; 409 when its id is taken."""
    wanted, members = await receive_model(request, NewScheduleInput)
    created = await services.schedules.create(wanted, TemplateText(members), get_principal(request))
    location = f"{services.settings.root_path}/api/v1/schedules/{created.id}"
    return Json(msgspec.json.encode(_document(created)), 201, {"Location": location})


@router.get(
    "/{schedule_id}",
    operation_id="getSchedule",
    summary="Read a schedule",
    response_class=Json,
    responses={200: {"model": ScheduleModel}, **problem_responses(404, 422)},
)
async def get_schedule(schedule_id: Id, services: ServicesOf) -> Json:
    """A periodic task and its next tick."""
    return Json(msgspec.json.encode(_document(await services.schedules.get(schedule_id))))


@router.put(
    "/{schedule_id}",
    operation_id="putSchedule",
    summary="Create or replace a schedule",
    response_class=Json,
    responses={200: {"model": ScheduleModel}, 201: {"model": ScheduleModel}, **BODY_PROBLEMS},
    openapi_extra=_request_body("ScheduleInput"),
)
async def put_schedule(schedule_id: Id, request: Request, services: ServicesOf) -> Json:
    """Create or replace a periodic task; ticks that were missed until then are forgotten."""
    wanted, members = await receive_model(request, ScheduleInput)
    record, created = await services.schedules.put(schedule_id, wanted, TemplateText(members), get_principal(request))
    return Json(msgspec.json.encode(_document(record)), 201 if created else 200)


@router.delete(
    "/{schedule_id}",
    operation_id="deleteSchedule",
    summary="Delete a schedule",
    status_code=204,
    responses=problem_responses(404, 422),
)
async def delete_schedule(schedule_id: Id, services: ServicesOf) -> Response:
    """Delete a periodic task; what it has submitted stays."""
    await services.schedules.delete(schedule_id)
    return Response(status_code=204)


def _document(record: ScheduleRecord) -> dict[str, Any]:
    spec = parse_spec(record.spec_json)
    retry = spec.retry
    return {
        "id": record.id,
        "queue": record.queue,
        "task": record.task,
        "args": raw(spec.args_json),
        "kwargs": raw(spec.kwargs_json),
        "metadata": raw(spec.metadata_json),
        "priority": spec.priority,
        "retry": retry,
        "timeout_seconds": spec.timeout_seconds,
        "ttl_seconds": spec.ttl_seconds,
        "callback_url": spec.callback_url,
        "cron": spec.rule.cron,
        "interval_seconds": spec.rule.interval_seconds,
        "time_zone": spec.rule.time_zone,
        "catch_up": spec.rule.catch_up,
        "enabled": not record.paused,
        "next_at": render_moment(record.next_at),
        "last_tick_at": render_moment(record.last_tick_at),
        "last_task_id": record.last_task_id and str(record.last_task_id),
        "created_at": render_moment(record.created_at),
        "updated_at": render_moment(record.updated_at),
    }
