"""Asking a cluster by the kubectl of the PATH, with the context and the rights of whoever calls."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from taskfleet.errors import UnavailableError

__all__ = ["create_objects", "fetch_json", "run_kubectl"]

ANSWER_SECONDS = 15


def run_kubectl(*arguments: str, text: str | None = None) -> str:
    """The output of one command whose input is `text`. Raises UnavailableError with kubectl's words when it fails."""
    command = ["kubectl", f"--request-timeout={ANSWER_SECONDS}s", *arguments]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=2 * ANSWER_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise UnavailableError("kubectl is not on the PATH") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"kubectl {arguments[0]}: no answer within {2 * ANSWER_SECONDS} s") from error
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise UnavailableError(f"kubectl {arguments[0]}: {words[-1] if words else 'failed'}")
    return done.stdout


def fetch_json(*arguments: str) -> Any:
    """The same, decoded."""
    return json.loads(run_kubectl(*arguments, "-o", "json"))


def create_objects(manifests: Iterable[Mapping[str, Any]], *options: str) -> list[Any]:
    """What the server makes of each, in their order."""
    # One document: kubectl 1.32 takes no stream of JSON documents.
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    answer = run_kubectl("create", "--validate=false", "-f", "-", "-o", "json", *options, text=text)
    decoder, found, position = json.JSONDecoder(), [], 0
    while start := answer.find("{", position) + 1:  # kubectl writes one document after the other
        document, position = decoder.raw_decode(answer, start - 1)
        found.append(document)
    return found
