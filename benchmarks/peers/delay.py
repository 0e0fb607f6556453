"""Peer (a): FastAPI + `task.delay()`. No record and no publisher confirm: a lost message stays unseen.

Everything is at its default: a sync endpoint in FastAPI's thread pool, Celery's producer pool of 10 connections, a
classic durable queue and persistent messages. PEER_RESULT_BACKEND is empty in the comparison: with a Redis result
backend `delay()` also subscribes to each result, which makes this peer slower.
"""

import os

from celery import Celery
from fastapi import FastAPI

from benchmarks.peers.schemas import Submission, Submitted

celery_app = Celery("peer", broker=os.environ["PEER_BROKER_URL"], backend=os.environ.get("PEER_RESULT_BACKEND") or None)
celery_app.conf.task_default_queue = os.environ["PEER_QUEUE"]
app = FastAPI()


@celery_app.task(name="jobs.add")
def add(x: float, y: float) -> float:
    """Stand for the work."""
    return x + y


@app.post("/api/v1/tasks", status_code=202)
def submit(submission: Submission) -> Submitted:
    """Publish and answer."""
    result = add.delay(*submission.args, **submission.kwargs)
    return Submitted(task_id=result.id, status="submitted")
