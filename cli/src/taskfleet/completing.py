"""What a shell offers for names that only the API knows: quickly and silently, for somebody has pressed TAB."""

import contextlib
from collections.abc import Callable, Iterable

import typer

from taskfleet.client import Client
from taskfleet.errors import TaskfleetError

__all__ = ["complete_queues", "complete_schedules", "complete_task_ids", "complete_task_names"]

ANSWER_SECONDS = 2.0
MOST_TASKS = 50  # newest first; who looks for an older one has its id from elsewhere

Candidates = Iterable[tuple[str, str]]


def complete_queues(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of queues, with their depth."""
    return _complete(
        context, incomplete, lambda client: ((queue.name, _count(queue.ready)) for queue in client.queues())
    )


def complete_task_names(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Tasks that the workers of the queue before it have announced, with their parameters."""
    queue = context.params.get("queue")
    if not isinstance(queue, str):
        return []
    return _complete(
        context,
        incomplete,
        lambda client: (
            (found.name, " ".join((found.parameters or {}).get("properties", {})))
            for found in client.queue_tasks(queue)
        ),
    )


def complete_task_ids(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the newest tasks that are not on the line yet."""
    given = set(context.params.get("ids") or ())
    return _complete(
        context,
        incomplete,
        lambda client: (
            (task.id, f"{task.state} {task.task}") for task in client.list(limit=MOST_TASKS) if task.id not in given
        ),
    )


def complete_schedules(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of schedules, with their task."""
    return _complete(
        context, incomplete, lambda client: ((schedule.id, schedule.task) for schedule in client.schedules())
    )


def _complete(context: typer.Context, incomplete: str, fetch: Callable[[Client], Candidates]) -> list[tuple[str, str]]:
    """Those of `fetch` that begin so; none when the API does not answer in time or refuses."""
    url, key = context.params.get("url"), context.params.get("api_key")
    with (
        contextlib.suppress(TaskfleetError),
        Client(url, api_key=key, retries=0, timeout_seconds=ANSWER_SECONDS) as client,
    ):
        return [(name, text) for name, text in fetch(client) if name.startswith(incomplete)]
    return []


def _count(ready: int | None) -> str:
    return "depth unknown" if ready is None else f"{ready} waiting"
