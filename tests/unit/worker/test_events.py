"""Events are exactly what core's TaskEvent says, at the position core would give them."""

import json
from typing import Any

import pytest
from celery.app.task import Context

from taskfleet_core import states, wire
from taskfleet_core.events import TaskEvent
from taskfleet_worker import _wire
from taskfleet_worker.events import StateEvent, build_error, build_identity, encode_event, encode_progress_prefix

FIELDS = TaskEvent.__annotations__
REQUIRED = TaskEvent.__required_keys__


def _request(**headers: Any) -> Context:
    return Context({"id": "t1", "task": "a.b", "args": [1], "kwargs": {"k": 2}, "retries": 2, **headers})


def test_an_event_has_only_fields_that_core_knows() -> None:
    identity = build_identity(_request(delivery_info={"redelivered": True}), ["q"], "a.b")
    event = StateEvent("retrying", 1.5, "w", ends_attempt=True, error={"type": "E", "message": "m"}, retry_at=3.0)
    event.result, event.runtime_seconds, event.progress = "7", 0.25, ',"progress":1,"progress_count":2'
    decoded = json.loads(encode_event(identity, event, 5, 100))
    assert REQUIRED <= set(decoded) <= set(FIELDS)
    assert decoded["origin"] == "celery"
    assert (decoded["args"], decoded["kwargs"], decoded["retries"]) == ([1], {"k": 2}, 2)
    assert (decoded["redelivered"], decoded["ends_attempt"], decoded["result"]) == (True, True, 7)


def test_progress_events_end_with_the_count_of_the_server() -> None:
    identity = build_identity(_request(**{wire.HEADER_ATTEMPT: 3}), ["q"], "a.b")
    decoded = json.loads(encode_progress_prefix(identity, 9, 1.0, "w", '{"p":1}') + "4}")
    assert REQUIRED <= set(decoded) <= set(FIELDS)
    assert (decoded["progress"], decoded["progress_count"], decoded["attempt"]) == ({"p": 1}, 4, 3)
    assert "origin" not in decoded


def test_a_result_over_the_limit_leaves_its_size() -> None:
    identity = build_identity(_request(**{wire.HEADER_ATTEMPT: 1}), ["q"], "a.b")
    decoded = json.loads(encode_event(identity, StateEvent("succeeded", 1.0, "w", result='"xxxx"'), 5, 5))
    assert decoded["result_omitted_bytes"] == 6
    assert "result" not in decoded


@pytest.mark.parametrize("value", [None, "x", 0, -3, 1.5])
def test_headers_of_a_strange_kind_count_as_the_first_attempt(value: Any) -> None:
    assert build_identity(_request(**{wire.HEADER_ATTEMPT: value}), ["q"], "a.b").attempt == 1


def test_errors_are_bounded_and_never_raise() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "unprintable" in build_error(Rude())["message"]
    assert len(build_error(ValueError("x" * 10**6), "t" * 10**6)["traceback"]) <= 50_000


@pytest.mark.parametrize("state", list(states.TaskState))
@pytest.mark.parametrize("ends_attempt", [False, True])
@pytest.mark.parametrize(("attempt", "retries"), [(1, 0), (2, 7), (3, 10**9)])
def test_positions_are_those_of_core(state: states.TaskState, ends_attempt: bool, attempt: int, retries: int) -> None:
    expected = states.position(attempt, retries, state, ends_attempt=ends_attempt)
    assert _wire.position(attempt, retries, state.value, ends_attempt=ends_attempt) == expected


def test_the_copy_of_wire_holds_every_name() -> None:
    for name, value in vars(wire).items():
        if name.isupper():
            assert getattr(_wire, name) == value
