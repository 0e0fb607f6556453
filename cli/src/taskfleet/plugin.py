"""`kubectl taskfleet ...`: the same commands, on the release in the cluster of kubectl, without an address or a key."""

import base64
import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

from taskfleet.errors import TaskfleetError, UnavailableError
from taskfleet.exit_codes import get_exit_code
from taskfleet.kubectl import run_kubectl
from taskfleet.main import execute, tell

__all__ = ["execute_plugin", "run"]

WITHOUT_API = frozenset({"up", "simulate", "completion"})
FORWARD_SECONDS = 20.0
ENV_URL, ENV_KEY, ENV_NAMESPACE = "TASKFLEET_URL", "TASKFLEET_API_KEY", "TASKFLEET_NAMESPACE"


def run() -> None:
    """Run the command line as kubectl's plugin and exit with its code."""
    sys.exit(execute_plugin(sys.argv[1:]))


def execute_plugin(arguments: Sequence[str]) -> int:
    """One command. Where no address is given, a port-forward to the release's API lasts as long as it does."""
    words = list(arguments)
    if words[:1] == ["doctor"]:
        words.append("--cluster")
    if not _needs_forward(words):
        return execute(words, program="kubectl taskfleet")
    namespace = os.environ.get(ENV_NAMESPACE) or "taskfleet"
    try:
        with forwarded_api(namespace):
            return execute(words, program="kubectl taskfleet")
    except TaskfleetError as error:
        if words[0] == "doctor":  # it tells more of what is broken
            return execute(words, program="kubectl taskfleet")
        tell(str(error))
        return get_exit_code(error)


def _needs_forward(words: Sequence[str]) -> bool:
    if not words or words[0].startswith("-") or words[0] in WITHOUT_API or "--help" in words:
        return False
    return not (os.environ.get(ENV_URL) or any(word.partition("=")[0] == "--url" for word in words))


@contextlib.contextmanager
def forwarded_api(namespace: str) -> Iterator[None]:
    """The environment that the commands read, with the API's address on this machine and its key, while the block runs.

    Raises UnavailableError when there is no release or it cannot be reached.
    """
    service = _find_service(namespace)
    if not os.environ.get(ENV_KEY) and (key := _fetch_key(namespace, service)):
        os.environ[ENV_KEY] = key
    command = ["kubectl", "-n", namespace, "port-forward", f"service/{service}", ":8000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
        try:
            os.environ[ENV_URL] = f"http://127.0.0.1:{_read_port(forward)}"
            yield
        finally:
            forward.terminate()


def _find_service(namespace: str) -> str:
    selector = "app.kubernetes.io/part-of=taskfleet,app.kubernetes.io/component=api"
    found = run_kubectl("get", "services", "-n", namespace, "-l", selector, "-o", "name").split()
    if not found:
        raise UnavailableError(
            f"namespace {namespace} holds no API of Taskfleet: set {ENV_NAMESPACE} to that of the release"
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
