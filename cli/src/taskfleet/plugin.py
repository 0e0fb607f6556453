"""`kubectl taskfleet ...`: the same commands, on the release in the cluster of kubectl, without an address or a key."""

import os
import sys
from collections.abc import Sequence

from taskfleet.errors import TaskfleetError
from taskfleet.exit_codes import get_exit_code
from taskfleet.forwarding import forward_api
from taskfleet.main import execute, tell

__all__ = ["execute_plugin", "run"]

WITHOUT_API = frozenset({"up", "simulate", "completion", "doctor"})  # doctor looks for the API itself
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
        with forward_api(os.environ.get(ENV_NAMESPACE) or "taskfleet") as address:
            os.environ[ENV_URL] = address.url
            if address.key and not os.environ.get(ENV_KEY):
                os.environ[ENV_KEY] = address.key
            return execute(words, program="kubectl taskfleet")
    except TaskfleetError as error:
        tell(str(error))
        return get_exit_code(error)


def _needs_forward(words: Sequence[str]) -> bool:
    if not words or words[0].startswith("-") or words[0] in WITHOUT_API or "--help" in words:
        return False
    return not (os.environ.get(ENV_URL) or any(word.partition("=")[0] == "--url" for word in words))
