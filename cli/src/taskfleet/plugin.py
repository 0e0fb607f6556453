"""`kubectl taskfleet ...`: the same commands, on the release in the cluster of kubectl, without an address or a key."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence

from taskfleet.errors import TaskfleetError
from taskfleet.exit_codes import get_exit_code
from taskfleet.forwarding import forward_api
from taskfleet.main import app, execute, tell

__all__ = ["complete", "execute_plugin", "run"]

WITHOUT_API = frozenset({"up", "simulate", "completion", "doctor"})  # doctor looks for the API itself
NO_FILES = ":4"  # the directive that kubectl's completion wants last
NOWHERE = "http://127.0.0.1:1"  # refused at once
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
    try:
        with _forwarded():
            return execute(words, program="kubectl taskfleet")
    except TaskfleetError as error:
        tell(str(error))
        return get_exit_code(error)


@contextlib.contextmanager
def _forwarded() -> Iterator[None]:
    """The environment that the commands read names the release's API while the block runs."""
    with forward_api(os.environ.get(ENV_NAMESPACE) or "taskfleet") as address:
        os.environ[ENV_URL] = address.url
        if address.key and not os.environ.get(ENV_KEY):
            os.environ[ENV_KEY] = address.key
        yield


def complete() -> None:
    """kubectl asks `kubectl_complete-taskfleet` for what may follow: the words, of which the last is not finished."""
    words = sys.argv[1:] or [""]
    with contextlib.ExitStack() as closing:
        if len(words) > 1 and not words[-1].startswith("-") and _needs_forward(words):
            try:
                closing.enter_context(_forwarded())
            except TaskfleetError:
                os.environ[ENV_URL] = NOWHERE  # no other API's names
        line = {"COMP_WORDS": " ".join(["taskfleet", *words]), "COMP_CWORD": str(len(words))}
        os.environ.update(line | {"_TASKFLEET_COMPLETE": "complete_bash"})
        with contextlib.suppress(SystemExit):
            app(prog_name="taskfleet")
    sys.stdout.write(f"\n{NO_FILES}\n")


def _needs_forward(words: Sequence[str]) -> bool:
    if not words or words[0].startswith("-") or words[0] in WITHOUT_API or "--help" in words:
        return False
    return not (os.environ.get(ENV_URL) or any(word.partition("=")[0] == "--url" for word in words))
