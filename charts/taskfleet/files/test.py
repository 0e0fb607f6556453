"""Asks an installed release a few questions; run by `helm test`."""

import json
import os
import urllib.error
import urllib.request

API = os.environ["API_URL"]
KEY = os.environ.get("API_KEY")
OPERATOR = os.environ.get("OPERATOR_URL")


def ask(url: str, key: str | None = None) -> tuple[int, bytes]:
    """Status and body of one answer."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def expect(what: str, right: bool, seen: object) -> None:
    """Print one line, or end with the reason."""
    if not right:
        raise SystemExit(f"FAILED {what}: {seen}")
    print(f"ok {what}")  # noqa: T201 - the test's log


status, body = ask(f"{API}/readyz")
expect("database, store and broker are up", status == 200 and json.loads(body)["status"] == "ready", body)
if KEY:
    expect("a caller without the key is refused", ask(f"{API}/api/v1/queues")[0] == 401, "not 401")
status, body = ask(f"{API}/api/v1/queues", KEY)
expect("a caller with the key is served", status == 200, (status, body))
if OPERATOR:
    status, body = ask(f"{OPERATOR}/metrics")
    expect("the operator tells its metrics", status == 200 and b"taskfleet_" in body, status)
