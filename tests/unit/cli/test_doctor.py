"""`taskfleet doctor`: what each check finds in good and in bad answers, and that every trouble comes with its fix."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import httpx
import pytest

from taskfleet.commands import doctor as command
from taskfleet.diagnosis.api import check_api, check_clock, check_queues
from taskfleet.diagnosis.cluster import check_cluster
from taskfleet.diagnosis.finding import Finding, Verdict
from taskfleet.diagnosis.leading import check_progress, check_worker_packages
from taskfleet.exit_codes import ExitCode
from taskfleet.kubectl import create_objects
from taskfleet.main import execute

UP = {"up": True}
QUEUE = {"name": "q", "ready": 0, "consuming": 0, "degradations": []}
NOW = 1_700_000_000.0
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
Answers = dict[str, Any]


def ask(changes: Answers) -> list[Finding]:
    """The findings about an API in good order but for `changes`: a body, a status, or an error, by path."""
    answers: Answers = {
        "/livez": {"status": "alive"},
        "/openapi.json": {"info": {"version": version("taskfleet")}},
        "/readyz": {"status": "ready", "checks": {"database": UP, "store": UP, "broker": UP}},
        "/api/v1/queues": {"items": [QUEUE]},
        "/ui/": {},
    } | changes

    def answer(request: httpx.Request) -> httpx.Response:
        found = answers[request.url.path]
        if isinstance(found, Exception):
            raise found
        if isinstance(found, int):
            return httpx.Response(found, json={"detail": "why"})
        return httpx.Response(200, json=found)

    with httpx.Client(base_url="http://api", transport=httpx.MockTransport(answer)) as http:
        return list(check_api(http))


def test_an_api_in_good_order_has_no_problem() -> None:
    findings = ask({})
    assert {finding.check for finding in findings} >= {"api", "version", "database", "store", "broker", "key", "queues"}
    assert all(finding.verdict is not Verdict.PROBLEM for finding in findings)


@pytest.mark.parametrize(
    ("changes", "check", "told"),
    [
        ({"/livez": httpx.ConnectError("refused")}, "api", "does not answer: refused"),
        ({"/livez": 404}, "api", "no Taskfleet does"),
        ({"/readyz": {"status": "degraded", "checks": {"broker": {"up": False, "detail": "gone"}}}}, "broker", "gone"),
        ({"/readyz": {"status": "degraded", "checks": {"loop:sweeper": {"up": False}}}}, "loop:sweeper", "is down"),
        ({"/readyz": {"odd": 1}}, "readiness", "no sound answer"),
        ({"/api/v1/queues": 401}, "key", "why"),
        ({"/api/v1/queues": {"items": [{**QUEUE, "ready": None}]}}, "queues", "depth unknown of q"),
        ({"/api/v1/queues": 500}, "queues", "status 500"),
    ],
)
def test_what_is_broken_is_a_problem_with_a_fix(changes: Answers, check: str, told: str) -> None:
    problems = [finding for finding in ask(changes) if finding.verdict is Verdict.PROBLEM]
    (problem,) = problems
    assert problem.check == check
    assert told in problem.detail
    assert problem.fix


@pytest.mark.parametrize(
    ("changes", "check", "told"),
    [
        ({"/openapi.json": {"info": {"version": "9.9.9"}}}, "version", "the API is 9.9.9"),
        ({"/api/v1/queues": {"items": []}}, "queues", "there is none"),
        ({"/ui/": 404}, "console", "not served here"),
    ],
)
def test_what_may_be_meant_is_a_note(changes: Answers, check: str, told: str) -> None:
    notes = [finding for finding in ask(changes) if finding.verdict is Verdict.NOTE and finding.check == check]
    assert [told in note.detail and bool(note.fix) for note in notes] == [True]


@pytest.mark.parametrize(
    ("offset", "told"), [(0, "within"), (3, "within"), (-60, "60 s ahead of"), (60, "60 s behind")]
)
def test_clocks_are_compared(offset: float, told: str) -> None:
    assert told in check_clock(DATE, NOW + 0.5 + offset).detail


def test_tasks_without_workers_and_missing_features_are_told() -> None:
    queue = {**QUEUE, "ready": 3, "degradations": [{"feature": "priority", "detail": "no such thing"}]}
    assert ["explain q" in (f.fix or "") or "priority" in f.detail for f in check_queues([queue])] == [True, True]


def test_a_problem_is_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["doctor", "--url", "http://127.0.0.1:1", "-o", "json"]) == ExitCode.FAILED
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["check"], finding["verdict"]) == ("api", "problem")
    assert "taskfleet up" in finding["fix"]


def test_no_problem_is_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "check_api", lambda http: [Finding("api", Verdict.NOTE, "odd", "do this")])
    assert execute(["doctor"]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[-2:] == ["        fix: do this", "no problem"]


def test_a_cluster_that_does_not_answer_is_a_problem(make_kubectl: Callable[[str], None]) -> None:
    make_kubectl("echo 'The connection was refused' >&2; exit 1")
    (finding,) = check_cluster("taskfleet")
    assert finding.verdict is Verdict.PROBLEM
    assert "The connection was refused" in finding.detail


def test_documents_that_kubectl_writes_one_after_the_other_are_told_apart(make_kubectl: Callable[[str], None]) -> None:
    make_kubectl('cat >/dev/null; printf \'{\\n"a": {"b": 1}\\n}\\n{"a": 2}\\n\'')
    assert create_objects([{}, {}]) == [{"a": {"b": 1}}, {"a": 2}]


@pytest.mark.parametrize(
    ("observed", "age_seconds", "told"),
    [(2, 999, []), (1, 5, []), (1, 999, ["the operator does not follow the newest spec of n/q"])],
    ids=["followed", "just changed", "not followed"],
)
def test_a_spec_that_nobody_takes_up_is_told(observed: int, age_seconds: float, told: list[str]) -> None:
    written = {"time": "2023-11-14T22:13:20Z"}
    managed = [written, {"time": "2030-01-01T00:00:00Z", "subresource": "status"}]
    metadata = {"namespace": "n", "name": "q", "generation": 2, "managedFields": managed}
    metadata["creationTimestamp"] = "2020-01-01T00:00:00Z"
    queue = {"metadata": metadata, "status": {"observedGeneration": observed}}
    found = check_progress([queue], datetime.fromtimestamp(NOW + age_seconds, UTC), "logs")
    assert [finding.detail for finding in found] == told


def test_workers_on_an_older_package_are_told(make_kubectl: Callable[[str], None]) -> None:
    """The newest is the one that was made last."""
    names = ("2000-01-01", "taskfleet-worker-1"), ("2001-01-01", "taskfleet-worker-2")
    maps = [{"metadata": {"name": name, "creationTimestamp": f"{day}T00:00:00Z"}} for day, name in names]
    deployments = [
        {
            "metadata": {"namespace": "n", "name": f"uses-{name[-1]}"},
            "spec": {"template": {"spec": {"volumes": [{"emptyDir": {}}, {"configMap": {"name": name}}]}}},
        }
        for _, name in names
    ]
    answers = json.dumps({"items": maps}), json.dumps({"items": deployments})
    make_kubectl(f"case \"$*\" in *configmaps*) echo '{answers[0]}' ;; *) echo '{answers[1]}' ;; esac")
    (finding,) = check_worker_packages()
    assert finding.verdict is Verdict.NOTE
    assert finding.detail.endswith("taskfleet-worker-2) yet: n/uses-1")
