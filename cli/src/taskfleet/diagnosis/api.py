"""Checks of one API: does it answer, as which version, by which clock, with which dependencies, for this caller."""

import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any

import httpx

from taskfleet.diagnosis.finding import Finding, Verdict, name_some

__all__ = ["check_api"]

MOST_SKEW_SECONDS = 5.0
ROUNDING_SECONDS = 0.5  # the Date of an answer is in whole seconds, cut off
REACH = (
    "start it with `taskfleet up`, or give its address: --url or TASKFLEET_URL. In a cluster: "
    "`kubectl -n taskfleet port-forward service/taskfleet-api 8000:8000`"
)
FIXES = {
    "database": "look at the server of TASKFLEET_API_DATABASE_URL; until it is back no task is accepted",
    "store": "look at the server of TASKFLEET_API_REDIS_URL; workers keep finished tasks in hand until it is back",
    "broker": "look at the server of TASKFLEET_API_BROKER_URL; accepted tasks wait in the database until it is back",
}
LOOP_FIX = "read the API's log; it tries again by itself"


def check_api(http: httpx.Client) -> Iterator[Finding]:
    """What there is to say about the API; ends early when it does not answer.

    `http` has the API's address, the caller's key and a time limit.
    """
    sent = time.time()
    try:
        answer = http.get("/livez")
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        yield Finding("api", Verdict.PROBLEM, f"{http.base_url} does not answer: {reason}", REACH)
        return
    if answer.status_code != 200:
        detail = f"{http.base_url} answers with status {answer.status_code}, which no Taskfleet does"
        yield Finding("api", Verdict.PROBLEM, detail, REACH)
        return
    yield Finding("api", Verdict.OK, f"{http.base_url} answers")
    yield check_clock(answer.headers.get("date"), (sent + time.time()) / 2)
    for check in (_check_version, _check_readiness, _check_access, _check_console):
        yield from _guard(check, http)


def check_clock(date: str | None, now: float) -> Finding:
    """How far the API's clock is from ours; `date` is the header of its answer, `now` Unix time meanwhile."""
    if not date:
        return Finding("clock", Verdict.NOTE, "the answer says no time", "compare `date -u` on both machines")
    skew = parsedate_to_datetime(date).timestamp() + ROUNDING_SECONDS - now
    if abs(skew) <= MOST_SKEW_SECONDS:
        return Finding("clock", Verdict.OK, f"within {MOST_SKEW_SECONDS:g} s of the API's")
    detail = f"the API's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    fix = "synchronise both (NTP): eta, expiry, schedules and ages are told by clocks"
    return Finding("clock", Verdict.PROBLEM, detail, fix)


def _guard(check: Callable[[httpx.Client], Iterator[Finding]], http: httpx.Client) -> Iterator[Finding]:
    """An answer that gets lost is a finding."""
    try:
        yield from check(http)
    except (httpx.TransportError, ValueError, KeyError, TypeError) as error:
        name = check.__name__.removeprefix("_check_")
        yield Finding(name, Verdict.PROBLEM, f"no sound answer: {type(error).__name__} {error}", LOOP_FIX)


def _check_version(http: httpx.Client) -> Iterator[Finding]:
    theirs, ours = http.get("/openapi.json").json()["info"]["version"], version("taskfleet")
    if theirs == ours:
        yield Finding("version", Verdict.OK, f"{ours}, as this command")
        return
    fix = "upgrade the older one; a command talks to an API of the same or the next minor version"
    yield Finding("version", Verdict.NOTE, f"the API is {theirs}, this command {ours}", fix)


def _check_readiness(http: httpx.Client) -> Iterator[Finding]:
    document = http.get("/readyz").json()
    for name, check in document["checks"].items():
        if check["up"]:
            yield Finding(name, Verdict.OK, "answers the API")
        else:
            yield Finding(name, Verdict.PROBLEM, check.get("detail") or "is down", FIXES.get(name, LOOP_FIX))
    if document["status"] == "stopping":
        yield Finding("api", Verdict.NOTE, "is stopping", "ask again once its successor is up")


def _check_access(http: httpx.Client) -> Iterator[Finding]:
    answer = http.get("/api/v1/queues")
    if answer.status_code in (401, 403):
        fix = "set TASKFLEET_API_KEY to a key with the scope read; `taskfleet keys create` makes one"
        yield Finding("key", Verdict.PROBLEM, str(answer.json().get("detail")), fix)
    elif answer.is_success:
        yield Finding("key", Verdict.OK, "this caller may read")
        yield from check_queues(answer.json()["items"])
    else:
        yield Finding("queues", Verdict.PROBLEM, f"cannot be read: status {answer.status_code}", LOOP_FIX)


def check_queues(queues: list[dict[str, Any]]) -> Iterator[Finding]:
    """Whether there are queues, whether their figures are known, and what their broker cannot do."""
    if not queues:
        fix = "apply a TaskQueue, or name its file: `taskfleet up -f taskqueue.yaml`"
        yield Finding("queues", Verdict.NOTE, "there is none", fix)
        return
    unknown = [queue["name"] for queue in queues if queue["ready"] is None]
    if unknown:
        fix = "the broker's statistics cannot be read: look at its management or metrics address; replicas are held"
        yield Finding("queues", Verdict.PROBLEM, f"depth unknown of {name_some(unknown)}", fix)
    deserted = [queue["name"] for queue in queues if queue["ready"] and queue["consuming"] == 0]
    if deserted:
        fix = f"`taskfleet explain {deserted[0]}` says why"
        yield Finding("queues", Verdict.NOTE, f"tasks wait and no worker takes them: {name_some(deserted)}", fix)
    lacks: dict[str, list[str]] = {}
    for queue in queues:
        for item in queue.get("degradations", ()):
            lacks.setdefault(f"{item['feature']}: {item['detail']}", []).append(queue["name"])
    for lack, names in lacks.items():
        fix = "see docs/servers.md for a broker that can, or do without"
        yield Finding("queues", Verdict.NOTE, f"{lack} ({name_some(names)})", fix)
    if not unknown and not deserted:
        yield Finding("queues", Verdict.OK, f"{len(queues)} known")


def _check_console(http: httpx.Client) -> Iterator[Finding]:
    answer = http.get("/ui/")
    if answer.is_success:
        yield Finding("console", Verdict.OK, f"{http.base_url.join('/ui/')}")
    else:
        yield Finding(
            "console",
            Verdict.NOTE,
            f"not served here (status {answer.status_code})",
            "see TASKFLEET_API_CONSOLE, and hack/console",
        )
