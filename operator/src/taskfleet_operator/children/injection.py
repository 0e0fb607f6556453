"""The ConfigMap with the worker package: what makes any Celery image a Taskfleet worker without rebuilding it.

A zip on PYTHONPATH, and beside it zips that the package appends to the end of `sys.path`: what an image may lack.
Nothing in those shadows what the image has, its metadata included. The one module that does is `repl_shim`.
"""

import base64
import hashlib
import importlib.metadata
import importlib.util
import io
import py_compile
import tempfile
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
SHIMS = {"click_repl.py": f"{WORKER_PACKAGE}/repl_shim.py"}
VENDOR_ARCHIVE = "vendor.zip"
VENDORED = ("redis",)
# Before 3.11.3 redis-py imports async_timeout for its asyncio side, which no worker uses.
SHIM_ARCHIVE = "vendor-before-3.11.3.zip"
SHIM = b"""def timeout(delay):
    raise NotImplementedError("install async-timeout to use redis.asyncio")
"""

Files = Mapping[str, bytes]


def read_injected_files() -> dict[str, dict[str, bytes]]:
    """What goes into which zip. The files are read, never imported: a worker's code runs in workers."""
    vendored: dict[str, bytes] = {}
    for package in VENDORED:
        vendored |= _read_package(package)
        # kombu asks the metadata which version it is.
        version = importlib.metadata.version(package)
        text = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        vendored[f"{package}-{version}.dist-info/METADATA"] = text.encode()
    return {
        INJECTION_ARCHIVE: _compile(_put_shims(_read_package(WORKER_PACKAGE))),
        VENDOR_ARCHIVE: vendored,
        SHIM_ARCHIVE: {"async_timeout.py": SHIM},
    }


def _put_shims(files: dict[str, bytes]) -> dict[str, bytes]:
    """Modules of the worker package that stand in for others under their names."""
    return {**files, **{name: files[path] for name, path in SHIMS.items()}}


def _compile(files: dict[str, bytes]) -> dict[str, bytes]:
    """Bytecode beside the source: Python keeps none of what comes from a zip, and would compile it at each start.
    Where a worker's Python is another minor version than the operator's, it takes the source."""
    compiled = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "module.py")
        for path, content in files.items():
            source.write_bytes(content)
            mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
            target = py_compile.compile(str(source), f"{source}c", path, doraise=True, invalidation_mode=mode)
            compiled[f"{path}c"] = Path(str(target)).read_bytes()
    return {**files, **compiled}


def _read_package(name: str) -> dict[str, bytes]:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise RuntimeError(f"{name} is not installed beside the operator")
    folder = Path(spec.origin).parent
    return {f"{name}/{path.relative_to(folder).as_posix()}": path.read_bytes() for path in folder.rglob("*.py")}


def build_archive(files: Files) -> bytes:
    """A reproducible zip of `path -> content`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path, EPOCH), files[path], zipfile.ZIP_DEFLATED, compresslevel=9)
    return buffer.getvalue()


@dataclass(frozen=True)
class Injection:
    """One version of what is injected."""

    name: str
    archives: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def from_files(cls, files: Mapping[str, Files]) -> "Injection":
        """Name by content: an upgrade makes a new ConfigMap and rolls the Deployments, and old pods keep theirs.

        Raises ValueError when a ConfigMap cannot hold it.
        """
        archives = {name: build_archive(inner) for name, inner in files.items()}
        size = sum(map(len, archives.values()))
        if size > MAX_BYTES:
            raise ValueError(f"the injected packages have {size} bytes, a ConfigMap holds {MAX_BYTES}")
        # Of the contents rather than of the zips: another version of zlib compresses to other bytes.
        digest = hashlib.sha256()
        for archive in sorted(files):
            for path, content in sorted(files[archive].items()):
                digest.update(f"{archive}/{path}\n{len(content)}\n".encode() + content)
        return cls(INJECTION_PREFIX + digest.hexdigest()[:12], archives)

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
            "binaryData": {name: base64.b64encode(data).decode() for name, data in self.archives.items()},
        }
