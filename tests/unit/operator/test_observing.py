"""What pods and brokers tell becomes a reason and a fix."""

from typing import Any

import pytest
from pydantic import ValidationError

from taskfleet_core.statistics import ReadProblem, Trouble
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.conditions import find_unhealthy
from taskfleet_operator.observing import build_pod_facts, explain_problem, explain_unknown, parse_document
from taskfleet_operator.topology_keeping import QueueState

REFUSED = (
    "taskfleet: this app cannot run as a Taskfleet worker: the image has Celery 5.4.0; install Celery 5.5 or newer"
)


def build_pod(*, state: Any = None, last: Any = None, restarts: int = 0) -> dict[str, Any]:
    """A pod with a sidecar before the worker."""
    worker = {"name": "worker", "restartCount": restarts, "state": state or {"running": {}}}
    if last:
        worker["lastState"] = {"terminated": last}
    sidecar = {"name": "proxy", "restartCount": 9, "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    return {
        "metadata": {"name": "p", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "status": {"containerStatuses": [sidecar, worker]},
    }


BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}


@pytest.mark.parametrize(
    ("pod", "reason", "words"),
    [
        pytest.param(build_pod(), None, "", id="a sidecar's trouble is not the worker's"),
        pytest.param(
            build_pod(state=BACK_OFF, last={"exitCode": 78, "message": f"log line\n{REFUSED}\n"}, restarts=1),
            "AppRefused",
            "install Celery 5.5",
            id="the loader's refusal, between starts",
        ),
        pytest.param(
            build_pod(state={"terminated": {"exitCode": 78, "message": REFUSED}}),
            "AppRefused",
            "Celery 5.4.0",
            id="the loader's refusal, at once",
        ),
        pytest.param(
            build_pod(state=BACK_OFF, last={"exitCode": 2, "message": "x\nError: The module nothing was not found."}),
            "WorkersCrashing",
            "The module nothing was not found",
            id="the last line of the log",
        ),
        pytest.param(
            build_pod(last={"exitCode": 1, "message": "boom"}, restarts=3),
            "WorkersCrashing",
            "boom",
            id="running between two crashes",
        ),
        pytest.param(
            build_pod(state={"terminated": {"exitCode": 1, "message": "boom"}}),
            "WorkersCrashing",
            "boom",
            id="the first",
        ),
        pytest.param(build_pod(last={"exitCode": 0}, restarts=1), None, "", id="an end in order"),
        pytest.param(
            build_pod(state=BACK_OFF, last={"exitCode": 137, "reason": "OOMKilled"}),
            "WorkersCrashing",
            "limits.memory",
            id="out of memory",
        ),
        pytest.param(
            build_pod(
                state=BACK_OFF,
                last={"exitCode": 128, "message": 'exec: "celery": executable file not found in $PATH'},
            ),
            "WorkersCrashing",
            "install Celery",
            id="no Celery at all",
        ),
    ],
)
def test_why_workers_do_not_run_is_said_with_the_fix(pod: dict[str, Any], reason: str | None, words: str) -> None:
    found = find_unhealthy((build_pod_facts(pod),))
    assert (found and str(found[0])) == reason
    assert found is None or words in found[1]


@pytest.mark.parametrize(
    ("problem", "reason", "words"),
    [
        (None, "StatisticsPending", "not been read yet"),
        (ReadProblem(Trouble.REFUSED, "403"), "BrokerCredentialsRefused", "correct user and password in Secret x"),
        (ReadProblem(Trouble.UNREACHABLE, "refused"), "BrokerUnreachable", "check that the broker runs"),
        (ReadProblem(Trouble.MISSING, "no queue"), "QueueMissing", "being declared"),
        (ReadProblem(Trouble.UNREADABLE, "odd"), "StatisticsUnreadable", "odd"),
    ],
)
def test_why_figures_are_unknown_is_told_apart(problem: ReadProblem | None, reason: str, words: str) -> None:
    found = explain_problem(problem, "Secret x")
    assert str(found[0]) == reason
    assert words in found[1]


def test_a_new_queue_without_figures_is_no_alarm() -> None:
    reason, text = explain_problem(ReadProblem(Trouble.MISSING, "no queue"), "Secret x", is_new=True)
    assert str(reason) == "StatisticsPending"
    assert "new queue" in text


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param(QueueState(), True, id="to be declared"),
        pytest.param(QueueState(error="refused"), False, id="could not be declared"),
        pytest.param(QueueState(is_ready=True, since=95.0), True, id="declared a moment ago"),
        pytest.param(QueueState(is_ready=True, since=5.0), False, id="declared long ago"),
    ],
)
def test_a_queue_is_new_until_its_figures_must_be_there(state: QueueState, expected: bool) -> None:
    assert state.is_new(100.0) is expected


def build_raw(**scaling: Any) -> dict[str, Any]:
    """A TaskQueue as the API server has it, with what it says beside the fields that are read."""
    worker = {"image": "registry.example/thumbs:1", "app": "thumbs:app"}
    raw = {"apiVersion": "taskfleet.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": "thumbs"}, "status": {}}
    return {**raw, "spec": {"worker": worker, "scaling": scaling}}


def test_fields_of_a_newer_crd_are_ignored_and_named() -> None:
    queue, unknown = parse_document(TaskQueue, build_raw(maxReplicas=3, ofTheNextVersion=1))
    assert queue.spec.scaling.max_replicas == 3
    assert unknown == ("spec.scaling.ofTheNextVersion",)
    assert "spec.scaling.ofTheNextVersion" in explain_unknown(unknown)
    assert parse_document(TaskQueue, build_raw())[1] == ()


def test_what_is_wrong_is_refused_beside_what_is_unknown() -> None:
    with pytest.raises(ValidationError) as refused:
        parse_document(TaskQueue, build_raw(maxReplicas=-1, ofTheNextVersion=1))
    assert [error["loc"][-1] for error in refused.value.errors()] == ["maxReplicas"]
