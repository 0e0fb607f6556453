"""The ConfigMap with the worker package: what makes any Celery image a Taskfleet worker without rebuilding it.

A zip on PYTHONPATH. Beside the package it holds, in a folder that the package appends to the end of `sys.path`, what an
image may lack; nothing in it shadows what the image has.
"""

import base64
import hashlib
import importlib.metadata
import importlib.util
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskfleet_operator.children.deployment import INJECTION_ARCHIVE
from taskfleet_operator.names import INJECTION_PREFIX

__all__ = ["Injection", "build_archive", "read_injected_files"]

EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip with the same files has the same bytes, whenever and wherever it is made
MAX_BYTES = 1024 * 1024  # of a ConfigMap's data
WORKER_PACKAGE = "taskfleet_worker"
VENDOR_FOLDER = "vendor"
VENDORED = ("redis",)
# Before 3.11.3 redis-py imports async_timeout for its asyncio side, which no worker uses.
SHIM_FOLDER = "vendor-before-3.11.3"
SHIM = b"""def timeout(delay):
    raise NotImplementedError("install async-timeout to use redis.asyncio")
"""
# Parts of redis-py that nothing of a worker's imports: without them the zip is a third smaller.
LEFT_OUT = ("redis/multidb/", "redis/asyncio/multidb/", "redis/http/")


def read_injected_files() -> dict[str, bytes]:
    """What goes into the zip. The files are read, never imported: a worker's code runs in workers."""
    files = _read_package(WORKER_PACKAGE, "")
    for package in VENDORED:
        files |= _read_package(package, f"{VENDOR_FOLDER}/")
        # kombu asks the metadata which version it is.
        version = importlib.metadata.version(package)
        text = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        files[f"{VENDOR_FOLDER}/{package}-{version}.dist-info/METADATA"] = text.encode()
    return {**files, f"{SHIM_FOLDER}/async_timeout.py": SHIM}


def _read_package(name: str, prefix: str) -> dict[str, bytes]:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{name} is not installed beside the operator")
    folder = Path(spec.origin).parent
    paths = {f"{name}/{path.relative_to(folder).as_posix()}": path for path in sorted(folder.rglob("*.py"))}
    return {prefix + inner: path.read_bytes() for inner, path in paths.items() if not inner.startswith(LEFT_OUT)}


def build_archive(files: Mapping[str, bytes]) -> bytes:
    """A reproducible zip of `path -> content`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path, EPOCH), files[path], zipfile.ZIP_DEFLATED, compresslevel=9)
    return buffer.getvalue()


@dataclass(frozen=True)
class Injection:
    """One version of what is injected."""

    files: Mapping[str, bytes] = field(repr=False)
    name: str = ""
    archive: bytes = field(default=b"", repr=False)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Injection":
        """Name by content: an upgrade makes a new ConfigMap and rolls the Deployments, and old pods keep theirs.

        Raises ValueError when a ConfigMap cannot hold it.
        """
        archive = build_archive(files)
        if len(archive) > MAX_BYTES:
            raise ValueError(f"the injected package has {len(archive)} bytes, a ConfigMap holds {MAX_BYTES}")
        # Of the contents rather than of the zip: another version of zlib compresses to other bytes.
        digest = hashlib.sha256()
        for path in sorted(files):
            digest.update(f"{path}\n{len(files[path])}\n".encode() + files[path])
        return cls(files, INJECTION_PREFIX + digest.hexdigest()[:12], archive)

    def build(self, namespace: str, owners: list[dict[str, Any]]) -> dict[str, Any]:
        """The ConfigMap of one namespace, owned by the TaskQueues that use it."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": "taskfleet-operator"},
                # Several owners: none of them controls it, and it goes when the last one goes.
                "ownerReferences": [{**owner, "controller": False} for owner in owners],
            },
            "binaryData": {INJECTION_ARCHIVE: base64.b64encode(self.archive).decode()},
        }
