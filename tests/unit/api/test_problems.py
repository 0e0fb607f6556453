"""Problem documents: every domain error has a place, nothing leaks, everything can be encoded."""

import json

import pytest

from taskfleet_api import problems
from taskfleet_api.problems import ERROR_TABLE, ProblemResponse, build_problem, build_status_problem
from taskfleet_core import errors
from taskfleet_core.errors import FieldError, InvalidInputError, OverloadedError, TaskfleetError, UnavailableError


def all_errors(base: type[TaskfleetError] = TaskfleetError) -> list[type[TaskfleetError]]:
    return [base, *(found for child in base.__subclasses__() for found in all_errors(child))]


@pytest.mark.parametrize("kind", [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")])
def test_every_domain_error_is_in_the_table(kind: type) -> None:
    assert kind is FieldError or kind in ERROR_TABLE


def test_only_the_root_is_an_internal_error() -> None:
    assert [e for e, kind in ERROR_TABLE.items() if kind is problems.INTERNAL] == [TaskfleetError]


def test_input_errors_carry_their_pointers() -> None:
    error = InvalidInputError("no", (FieldError("#/retry/jitter", "must be true or false"),))
    document = build_problem(error).build_document("/x")
    assert document["status"] == 422
    assert document["instance"] == "/x"
    assert document["errors"] == [{"pointer": "#/retry/jitter", "detail": "must be true or false"}]


@pytest.mark.parametrize(("error", "seconds"), [(OverloadedError("full", 7), "7"), (UnavailableError("gone"), "5")])
def test_what_can_be_tried_again_says_when(error: TaskfleetError, seconds: str) -> None:
    problem = build_problem(error)
    assert problem.kind.status == 503
    assert problem.headers["Retry-After"] == seconds


def test_the_text_of_an_unexpected_error_stays_inside() -> None:
    assert "amqp" not in json.dumps(build_problem(TaskfleetError("amqp://user:secret@host")).build_document())


def test_lone_surrogates_can_be_told() -> None:
    response = ProblemResponse(build_problem(InvalidInputError("\ud800")), "/\ud800")
    assert json.loads(bytes(response.body))["detail"] == "\\ud800"


def test_any_status_has_a_problem() -> None:
    assert build_status_problem(418).kind.slug == "im-a-teapot"
