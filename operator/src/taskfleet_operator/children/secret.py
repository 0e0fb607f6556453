"""The Secret with the URLs of broker and store, one per TaskQueue and namespace."""

import base64
import hashlib
from typing import Any

from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.children.metadata import build_child_metadata
from taskfleet_operator.observed import Credentials

__all__ = [
    "AUTHORITY_KEY",
    "BACKEND_KEY",
    "BROKER_KEY",
    "CONFINED_KEY",
    "REDIS_KEY",
    "build_secret",
    "build_secret_hash",
]

BROKER_KEY, REDIS_KEY, BACKEND_KEY, AUTHORITY_KEY = "brokerUrl", "redisUrl", "resultBackend", "ca.crt"
CONFINED_KEY = "confined"  # with a broker user of the queue's own: what the worker is told of it
BACKEND = "taskfleet_worker.backend.Backend"


def build_secret(queue: TaskQueue, credentials: Credentials) -> dict[str, Any]:
    """What the worker's environment refers to."""
    values = {
        BROKER_KEY: credentials.broker_url,
        REDIS_KEY: credentials.redis_url,
        BACKEND_KEY: f"{BACKEND}+{credentials.redis_url}",
    }
    if credentials.authorities:
        values[AUTHORITY_KEY] = credentials.authorities
    if credentials.confined:
        values[CONFINED_KEY] = credentials.confined
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": build_child_metadata(queue),
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def build_secret_hash(credentials: Credentials) -> str:
    """Changes with the credentials, so that workers are replaced when they do. Tells nothing about them."""
    text = f"{credentials.broker_url}\n{credentials.redis_url}"
    if credentials.authorities:
        text += f"\n{credentials.authorities}"
    if credentials.confined:
        text += f"\n{credentials.confined}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
