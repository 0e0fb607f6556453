"""The one place that talks to the Kubernetes API: plain dictionaries over the official client's transport.

Typed models cost three times the CPU of plain dictionaries and 60 MiB, so none are used. Every call has a time limit.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote, urlencode

from taskfleet_core.errors import ConflictError, NotFoundError, TaskfleetError, UnavailableError
from taskfleet_core.taskqueue import API_VERSION
from taskfleet_operator.names import FIELD_MANAGER, SCALE_MANAGER

__all__ = ["ForbiddenError", "Kube", "NotLeaderError", "RefusedError", "build_path", "open_kube"]

PLURALS = {
    "ConfigMap": "configmaps",
    "Deployment": "deployments",
    "Event": "events",
    "Lease": "leases",
    "Pod": "pods",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Secret": "secrets",
    "ServiceAccount": "serviceaccounts",
    "TaskQueue": "taskqueues",
    "TaskQueuePolicy": "taskqueuepolicies",
}
API_VERSIONS = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "Event": "v1",
    "Lease": "coordination.k8s.io/v1",
    "Pod": "v1",
    "PodDisruptionBudget": "policy/v1",
    "Secret": "v1",
    "ServiceAccount": "v1",
    "TaskQueue": API_VERSION,
    "TaskQueuePolicy": API_VERSION,
}
TIMEOUT_SECONDS = 10.0
# An open watch says at least a bookmark each minute: one that is silent for longer has lost its connection.
WATCH_SILENCE_SECONDS = 90.0
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA_CHANGES = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
# Of these nothing but the metadata is listed and watched: half a megabyte of worker code in each namespace is known.
METADATA_KINDS = frozenset({"ConfigMap"})
UNFIT = ("failed to create typed patch object", "failed to convert new object")
LEASE_PREFIX = "/apis/coordination.k8s.io/"

Manifest = dict[str, Any]


class RefusedError(TaskfleetError):
    """Kubernetes refuses what was asked for (400, 422): trying again does not help."""


class ForbiddenError(TaskfleetError):
    """The operator's role lacks a right (401, 403)."""


class NotLeaderError(UnavailableError):
    """This replica does not hold the Lease (any more): the write was not sent."""


def build_path(kind: str, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
    """The URL path of a kind, an object or a subresource."""
    version = API_VERSIONS[kind]
    parts = ["api" if "/" not in version else "apis", version]
    if namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts.append(PLURALS[kind])
    parts += [quote(part, safe="") for part in (name, subresource) if part]
    return "/" + "/".join(parts)


class Kube:
    """Reads and writes of the operator. All methods raise ConflictError, NotFoundError, RefusedError, ForbiddenError
    or UnavailableError (retryable: no answer, 429, 5xx)."""

    def __init__(self, client: Any, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._may_write: Callable[[], bool] = lambda: True

    def guard_writes(self, may_write: Callable[[], bool]) -> None:
        """From now on ask before each write but the Lease's own; NotLeaderError when the answer is no."""
        self._may_write = may_write

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """One object."""
        return await self._call("GET", build_path(kind, namespace, name))

    async def find(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object, or None when it does not exist."""
        try:
            return await self.get(kind, namespace, name)
        except NotFoundError:
            return None

    async def list_metadata(self, kind: str, namespace: str | None) -> list[Manifest]:
        """All objects without spec and status."""
        answer = await self._call("GET", build_path(kind, namespace), accept=METADATA_ONLY)
        return [item["metadata"] for item in answer.get("items") or ()]

    async def list_page(self, kind: str, namespace: str | None, label_selector: str) -> tuple[list[Manifest], str]:
        """All labelled objects and the version from which a watch can go on. Of METADATA_KINDS the metadata alone."""
        accept = METADATA_ONLY if kind in METADATA_KINDS else "application/json"
        answer = await self._call("GET", build_path(kind, namespace), {"labelSelector": label_selector}, accept=accept)
        return answer.get("items") or [], answer["metadata"]["resourceVersion"]

    async def watch(
        self, kind: str, namespace: str | None, label_selector: str, version: str, seconds: int
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """Changes since `version` as (ADDED | MODIFIED | DELETED | BOOKMARK | ERROR, object), for at most `seconds`."""
        query = {
            "watch": "true",
            "labelSelector": label_selector,
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            "allowWatchBookmarks": "true",
        }
        path = build_path(kind, namespace)
        accept = METADATA_CHANGES if kind in METADATA_KINDS else "application/json"
        timeout_seconds = seconds + self._timeout_seconds
        response = await self._send("GET", path, query, None, "application/json", timeout_seconds, accept)
        try:
            if response.status >= 400:
                raise _map_error("GET", path, response.status, await response.read())
            while line := await self._read_line(response.response.content):
                change = json.loads(line)
                yield change["type"], change["object"]
        except TaskfleetError:
            raise
        except Exception as error:
            raise _map_transport(f"watch {path}", error) from error
        finally:
            response.response.close()

    @staticmethod
    async def _read_line(content: Any) -> bytes:
        async with asyncio.timeout(WATCH_SILENCE_SECONDS):
            line: bytes = await content.readline()
        return line if line.endswith(b"\n") else b""  # an end in the middle of a change is an end

    async def create(self, manifest: Manifest) -> Manifest:
        """Create an object."""
        path = build_path(manifest["kind"], manifest["metadata"]["namespace"])
        return await self._call("POST", path, {"fieldManager": FIELD_MANAGER}, manifest)

    async def replace(self, manifest: Manifest) -> Manifest:
        """Replace an object; its resourceVersion must be the one that was read."""
        metadata = manifest["metadata"]
        path = build_path(manifest["kind"], metadata["namespace"], metadata["name"])
        return await self._call("PUT", path, {"fieldManager": FIELD_MANAGER}, manifest)

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply under the operator's name; fields of other managers stay theirs. With a resourceVersion
        in its metadata it is a ConflictError if the object is not the one that was read. Of METADATA_KINDS the answer
        is the metadata alone."""
        metadata = manifest["metadata"]
        path = build_path(manifest["kind"], metadata["namespace"], metadata["name"])
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        accept = METADATA_CHANGES if manifest["kind"] in METADATA_KINDS else "application/json"
        return await self._call("PATCH", path, query, manifest, "application/apply-patch+yaml", accept)

    async def apply_scale(self, namespace: str, name: str, replicas: int, resource_version: str) -> Manifest:
        """Set the replicas of a Deployment, if it has not changed since it was read."""
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": resource_version},
            "spec": {"replicas": replicas},
        }
        path = build_path("Deployment", namespace, name, "scale")
        query = {"fieldManager": SCALE_MANAGER, "force": "true"}
        return await self._call("PATCH", path, query, body, "application/apply-patch+yaml")

    async def delete(self, manifest: Manifest) -> None:
        """Delete an object, if it has not changed since it was read; one that is gone is no error."""
        metadata = manifest["metadata"]
        path = build_path(manifest["kind"], metadata["namespace"], metadata["name"])
        seen = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        try:
            await self._call("DELETE", path, body={"preconditions": seen})
        except NotFoundError:
            return

    async def replace_status(self, queue: Manifest, status: Manifest, kind: str = "TaskQueue") -> Manifest:
        """Write the whole status of a TaskQueue (or another kind), if it has not changed since it was read."""
        metadata = queue["metadata"]
        body = {**queue, "status": status}
        path = build_path(kind, metadata["namespace"], metadata["name"], "status")
        return await self._call("PUT", path, {"fieldManager": FIELD_MANAGER}, body)

    async def annotate_pod(self, namespace: str, name: str, annotations: dict[str, str | None]) -> None:
        """Set or (None) remove annotations of a pod."""
        body = {"metadata": {"annotations": annotations}}
        query = {"fieldManager": FIELD_MANAGER}
        await self._call("PATCH", build_path("Pod", namespace, name), query, body, "application/merge-patch+json")

    async def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Manifest:
        if method != "GET" and not path.startswith(LEASE_PREFIX) and not self._may_write():
            raise NotLeaderError(f"{method} {path}: not sent, since this replica does not lead")
        response = await self._send(method, path, query, body, content_type, self._timeout_seconds, accept)
        try:
            data = await response.read()
            if response.status >= 400:
                raise _map_error(method, path, response.status, data)
            answer: Manifest = json.loads(data)
        except TaskfleetError:
            raise
        except Exception as error:
            raise _map_transport(f"{method} {path}", error) from error
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None,
        body: Manifest | None,
        content_type: str,
        timeout_seconds: float,
        accept: str = "application/json",
    ) -> Any:
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": accept, "Content-Type": content_type, **self._client.default_headers}
        try:
            await self._client.update_params_for_auth(headers, {}, ["BearerToken"], path, method, body)
            return await self._client.call_api(method, url, headers, body, _request_timeout=timeout_seconds)
        except Exception as error:
            raise _map_transport(f"{method} {path}", error) from error


def _map_transport(what: str, error: Exception) -> Exception:
    """Connection trouble and half answers become UnavailableError; our own errors and bugs stay what they are."""
    if isinstance(error, OSError | TimeoutError | json.JSONDecodeError | UnicodeDecodeError) or type(
        error
    ).__module__.startswith("aiohttp"):
        return UnavailableError(f"{what}: {str(error) or type(error).__name__}")
    return error


def _map_error(method: str, path: str, status: int, data: bytes) -> TaskfleetError:
    try:
        message = json.loads(data).get("message", "")
    except (ValueError, AttributeError):
        message = data[:200].decode("utf-8", "replace")
    text = f"{method} {path}: {status} {message}"
    if status == 404:
        return NotFoundError(text)
    if status == 409:
        return ConflictError(text)
    if status in {401, 403}:
        return ForbiddenError(text)
    # Server-side apply answers 500 to what has a wrong type, a wrong unit or an unknown field.
    unfit = status == 500 and any(part in message for part in UNFIT)
    return RefusedError(text) if unfit or status in {400, 405, 413, 415, 422} else UnavailableError(text)


async def open_kube(timeout_seconds: float = TIMEOUT_SECONDS) -> Kube:
    """Connect as the pod's ServiceAccount, or outside of a cluster as KUBECONFIG says."""
    # Imported here: the client takes a third of a second, and most modules never need it.
    from kubernetes.aio import config
    from kubernetes.aio.client import ApiClient, Configuration

    configuration = Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        # Read now: the client's own default is what the environment said when it was imported.
        await config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)
    configuration.connection_pool_maxsize = 32
    # Python 3.13 also asks certificates for extensions that many clusters' own authorities lack; kubectl does not.
    configuration.disable_strict_ssl_verification = True
    return Kube(ApiClient(configuration), timeout_seconds)
