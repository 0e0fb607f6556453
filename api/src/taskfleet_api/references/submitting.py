"""The one way from a reference's route into the submissions service."""

import json
from uuid import UUID

from starlette.requests import Request

from taskfleet_api.authentication import get_principal
from taskfleet_api.tasks.model import NewSubmission
from taskfleet_api.tasks.service import Services

__all__ = ["get_services", "submit"]


def get_services(request: Request) -> Services:
    """The services of the running app."""
    services: Services = request.app.state.services
    return services


async def submit(request: Request, reference: str, queue: str, task: str, kwargs_json: str) -> UUID:
    """Accept one task for a reference; raises the submissions service's errors."""
    submitted = await get_services(request).submissions.submit(
        NewSubmission(
            queue=queue,
            task=task,
            kwargs_json=kwargs_json,
            metadata_json=json.dumps({"reference": reference}),
            labels=(("reference", reference),),
            principal=get_principal(request),
            traceparent=request.headers.get("traceparent"),
        )
    )
    return submitted.id
