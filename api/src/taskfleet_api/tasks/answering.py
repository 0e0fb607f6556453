"""Answers a submission once it is accepted, with or without a wait; for both ways in, the app's and the short one."""

from functools import lru_cache

import msgspec
from prometheus_client import Counter

from taskfleet_api.tasks.model import SubmittedTask
from taskfleet_api.tasks.rendering import render_submitted, render_task
from taskfleet_api.tasks.service import Services
from taskfleet_api.telemetry import counter
from taskfleet_core.errors import OverloadedError, TaskfleetError

__all__ = ["answer_submission", "count_submission", "count_submissions"]


async def answer_submission(
    services: Services, submitted: SubmittedTask, wait_seconds: float | None
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers; waits if asked to. Whatever goes wrong while waiting, the task is accepted."""
    headers = {"Location": f"{services.settings.root_path}/api/v1/tasks/{submitted.id}"}
    if submitted.replayed:
        headers["Idempotency-Replayed"] = "true"
    if not wait_seconds:
        return 202, render_submitted(submitted), headers
    granted = min(wait_seconds, services.settings.max_wait_seconds)
    try:
        record = await services.submissions.wait(submitted.id, granted)
    except OverloadedError:
        return 202, render_submitted(submitted), headers
    except TaskfleetError:
        record = None
    headers["Preference-Applied"] = f"wait={granted:g}"
    if record is not None and record.state.is_final:
        return 200, render_task(record), headers
    if record is not None:
        submitted = msgspec.structs.replace(submitted, state=record.state, attempt=record.attempt)
    return 202, render_submitted(submitted), headers


def count_submission(submitted: SubmittedTask) -> None:
    """Count an accepted or repeated submission."""
    count_submissions(submitted.queue, replayed=submitted.replayed)


def count_submissions(queue: str, *, replayed: bool, count: int = 1) -> None:
    """Count accepted or repeated submissions to one queue."""
    _get_counter(queue, "replayed" if replayed else "accepted").inc(count)


@lru_cache(maxsize=4096)
def _get_counter(queue: str, outcome: str) -> Counter:
    """The child of one queue: looking it up by labels takes longer than counting."""
    return counter("taskfleet_api_submissions_total").labels(queue, outcome)
