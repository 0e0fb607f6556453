"""`spec.worker`: what runs the tasks."""

import re
from typing import Any, Literal

from pydantic import Field

from taskfleet_core.document_model import DocumentModel, Rule
from taskfleet_core.taskqueue.names import MAX_TARGETS, RESERVED_PATTERN, AppPath, QueueName

__all__ = ["Pool", "Worker"]

Pool = Literal["prefork", "threads", "gevent", "solo"]


class Worker(DocumentModel):
    """What runs the tasks: any image with Celery >= 5.5, unchanged."""

    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="Container image of the Celery app. Needed on Kubernetes; local mode runs the app as a process.",
    )
    app: AppPath = Field(description="Celery application as for `celery -A`: package.module:attribute.")
    concurrency: int = Field(default=4, ge=1, le=1000, description="Tasks that one replica runs at once (slots).")
    pool: Pool = Field(
        default="prefork",
        description="Celery pool. Hard time limits and terminate need prefork; soft time limits do not work in "
        "threads; solo runs one task at a time.",
    )
    max_task_seconds: int = Field(
        default=3600,
        ge=1,
        le=30 * 86400,
        description="Longest run of a task, seconds: the hard time limit where the pool has one; the broker's "
        "consumer time limit is this plus a margin.",
    )
    grace_period_seconds: int | None = Field(
        default=None,
        ge=0,
        le=30 * 86400,
        description="Seconds that a leaving replica may take to finish its tasks; default maxTaskSeconds.",
    )
    accept_content: list[str] = Field(
        default_factory=lambda: ["json"],
        min_length=1,
        description="Content types that workers accept, in Celery's words. Submissions over HTTP are always JSON.",
    )
    sends_to: list[QueueName] = Field(
        default_factory=list,
        max_length=MAX_TARGETS,
        description="Queues of other TaskQueues of the namespace that the tasks send to. Needed only where each "
        "TaskQueue has a broker user of its own, which sends to its own queues otherwise.",
    )
    env: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Environment variables, as in a container: {name, value} or {name, valueFrom}.",
    )
    env_from: list[dict[str, Any]] = Field(
        default_factory=list, description="Sources of environment variables, as in a container. Kubernetes only."
    )
    resources: dict[str, Any] = Field(
        default_factory=dict, description="Requests and limits, as in a container. Kubernetes only."
    )
    template: dict[str, Any] = Field(
        default_factory=dict, description="Strategic-merge overlay of the pod template. Kubernetes only."
    )

    RULES = (
        Rule(
            "concurrency",
            "self.pool != 'solo' || self.concurrency == 1",
            lambda w: w.pool != "solo" or w.concurrency == 1,
            "the solo pool runs one task at a time: set concurrency to 1, or use another pool",
        ),
        Rule(
            "env",
            "self.env.all(e, has(e.name) && size(e.name) > 0)",
            lambda w: all(isinstance(e.get("name"), str) and e["name"] for e in w.env),
            "every entry needs a name: write {name: VARIABLE, value: text}",
        ),
        Rule(
            "env",
            f"self.env.all(e, !e.name.matches('{RESERVED_PATTERN}'))",
            lambda w: not any(_is_reserved(e["name"]) for e in w.env),
            "names of Taskfleet's own (TASKFLEET_*, CELERY_BROKER_*URL, CELERY_LOADER, CELERY_RESULT_BACKEND) are set "
            "by it: remove them; to use another broker set spec.broker",
        ),
    )

    @property
    def effective_grace_seconds(self) -> int:
        """The grace period that applies."""
        return self.max_task_seconds if self.grace_period_seconds is None else self.grace_period_seconds


def _is_reserved(name: str) -> bool:
    return bool(re.match(RESERVED_PATTERN, name))
