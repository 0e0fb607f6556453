"""Reaching the API of a release through kubectl, with the key that its chart generated."""

import base64
import contextlib
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from taskfleet.errors import UnavailableError
from taskfleet.kubectl import run_kubectl

__all__ = ["Address", "forward_api"]

FORWARD_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the API is reached; `key` is None where the caller may not read it."""

    url: str
    key: str | None = field(repr=False)


@contextlib.contextmanager
def forward_api(namespace: str) -> Iterator[Address]:
    """The address on this machine of the namespace's API, while the block runs.

    Raises UnavailableError when there is no release or it cannot be reached.
    """
    service = _find_service(namespace)
    key = _fetch_key(namespace, service)
    command = ["kubectl", "-n", namespace, "port-forward", f"service/{service}", ":8000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
        try:
            yield Address(f"http://127.0.0.1:{_read_port(forward)}", key)
        finally:
            forward.terminate()


def _find_service(namespace: str) -> str:
    selector = "app.kubernetes.io/part-of=taskfleet,app.kubernetes.io/component=api"
    found = run_kubectl("get", "services", "-n", namespace, "-l", selector, "-o", "name").split()
    if not found:
        raise UnavailableError(
            f"namespace {namespace} holds no API of Taskfleet: set TASKFLEET_NAMESPACE to that of the release"
        )
    return found[0].partition("/")[2]


def _fetch_key(namespace: str, service: str) -> str | None:
    """The key that the chart generated, if the caller may read it."""
    secret = f"{service.removesuffix('-api')}-admin-key"
    try:
        encoded = run_kubectl("get", "secret", secret, "-n", namespace, "-o", "jsonpath={.data.apiKey}")
    except UnavailableError:
        return None
    return base64.b64decode(encoded).decode()


def _read_port(forward: "subprocess.Popen[str]") -> int:
    """The port that kubectl listens on, as it says; what else it says is read and dropped."""
    assert forward.stdout is not None
    killer = threading.Timer(FORWARD_SECONDS, forward.kill)
    killer.start()
    try:
        line = forward.stdout.readline()
    finally:
        killer.cancel()
    found = re.search(r"127\.0\.0\.1:(\d+)", line)
    if found is None:
        raise UnavailableError(f"the API cannot be reached: {line.strip() or 'kubectl port-forward said nothing'}")
    threading.Thread(target=forward.stdout.read, daemon=True).start()
    return int(found[1])
