"""Peer (b): the same with the equal promise: a SQLAlchemy record and a confirmed publish before the answer.

An async endpoint with SQLAlchemy's asyncio session (PostgreSQL by asyncpg, the pool at its default), a commit per
request, then `task.delay()` with `confirm_publish` in the thread pool, because it blocks. The queue is a quorum queue.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from kombu import Exchange, Queue
from sqlalchemy import JSON, DateTime
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.peers.schemas import Submission, Submitted

QUEUE = os.environ["PEER_QUEUE"]
celery_app = Celery("peer", broker=os.environ["PEER_BROKER_URL"])
celery_app.conf.update(
    broker_transport_options={"confirm_publish": True},
    task_default_queue=QUEUE,
    task_queues=[Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE, queue_arguments={"x-queue-type": "quorum"})],
)
engine = create_async_engine(os.environ["PEER_DATABASE_URL"])
Session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """Declarative base of the peer's one table."""


class TaskRow(Base):
    """The record of a task."""

    __tablename__ = "peer_tasks"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    queue: Mapped[str]
    task: Mapped[str]
    args: Mapped[list[Any]] = mapped_column(JSON)
    kwargs: Mapped[dict[str, Any]] = mapped_column(JSON)
    state: Mapped[str] = mapped_column(default="pending")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=lambda: datetime.now(UTC))


@celery_app.task(name="jobs.add")
def add(x: float, y: float) -> float:
    """Stand for the work."""
    return x + y


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Make the table at start and close the pool at the end."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.post("/api/v1/tasks", status_code=202)
async def submit(submission: Submission) -> Submitted:
    """Commit the record, publish with a confirm, and answer."""
    row = TaskRow(queue=submission.queue, task=submission.task, args=submission.args, kwargs=submission.kwargs)
    async with Session() as session:
        session.add(row)
        await session.commit()
    await run_in_threadpool(add.apply_async, args=submission.args, kwargs=submission.kwargs, task_id=str(row.id))
    return Submitted(task_id=str(row.id), status="submitted")
