"""The ConfigMap with the worker package: what makes any Celery image a Taskfleet worker without rebuilding it."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping
from typing import Any

from taskfleet_operator.children.deployment import INJECTION_ARCHIVE
from taskfleet_operator.names import INJECTION_PREFIX

__all__ = ["build_archive", "build_injection", "build_injection_name"]

EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip with the same files has the same bytes, whenever and wherever it is made


def build_archive(files: Mapping[str, bytes]) -> bytes:
    """A reproducible zip of `path -> content`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path, EPOCH), files[path], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def build_injection_name(archive: bytes) -> str:
    """Name by content: an upgrade makes a new ConfigMap and rolls the Deployments, and old pods keep theirs."""
    return INJECTION_PREFIX + hashlib.sha256(archive).hexdigest()[:12]


def build_injection(namespace: str, archive: bytes, owners: list[dict[str, Any]]) -> dict[str, Any]:
    """The ConfigMap of one namespace, owned by the TaskQueues that use it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": build_injection_name(archive),
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "taskfleet-operator"},
            # Several owners: none of them controls it, and it goes when the last one goes.
            "ownerReferences": [{**owner, "controller": False} for owner in owners],
        },
        "binaryData": {INJECTION_ARCHIVE: base64.b64encode(archive).decode()},
    }
