"""Where a task goes that a task sends without naming a queue."""

import json
from typing import Any

import pytest
import redis
from kombu import Queue

from taskfleet_worker.routing import DefaultRoute, extend_routes

OWN = {"namespace": "shop", "broker": "default"}


def build(*answers: Any) -> tuple[DefaultRoute, list[tuple[Any, ...]]]:
    """A router of queue `own` for `wanted`, whose store gives these answers, and what it asked."""
    asked: list[tuple[Any, ...]] = []
    left = iter(answers)

    def ask(*words: Any) -> Any:
        asked.append(words)
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return [None if entry is None else json.dumps(entry).encode() for entry in answer]

    return DefaultRoute("own", Queue("wanted"), ask), asked


def route(router: DefaultRoute, **options: Any) -> str | None:
    """The queue that the router names."""
    found = router("task", (), {}, options, task=None)
    return None if found is None else found["queue"].name


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param([OWN, OWN], "wanted", id="served in the same namespace"),
        pytest.param([OWN, None], None, id="not served"),
        pytest.param([None, OWN], None, id="own queue unknown"),
        pytest.param([OWN, {**OWN, "namespace": "other"}], None, id="of another namespace"),
        pytest.param([OWN, {**OWN, "broker": "second"}], None, id="at another broker"),
        pytest.param(redis.exceptions.NoPermissionError("no"), None, id="not allowed to look"),
    ],
)
def test_the_apps_default_queue_is_used_where_it_is_served(answer: Any, expected: str | None) -> None:
    router, _ = build(answer)
    assert route(router) == expected


@pytest.mark.parametrize("option", ["queue", "exchange", "routing_key"])
def test_what_names_its_destination_is_left_alone(option: str) -> None:
    router, asked = build([OWN, OWN])
    assert route(router, **{option: "there"}) is None
    assert asked == []


def test_the_store_is_asked_once_in_a_while_and_may_be_away(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("taskfleet_worker.routing.time.monotonic", lambda: clock[0])
    router, asked = build([OWN, OWN], redis.exceptions.ConnectionError("away"), [OWN, None])
    assert [route(router), route(router)] == ["wanted", "wanted"]
    assert len(asked) == 1
    clock[0] += 31
    assert route(router) == "wanted", "what was known holds"
    clock[0] += 31
    assert route(router) is None
    assert len(asked) == 3


def test_a_queue_of_the_same_workers_needs_no_look() -> None:
    assert route(DefaultRoute("own", Queue("wanted"), None)) == "wanted"


@pytest.mark.parametrize(
    ("routes", "before"),
    [(None, []), ((), []), ({"a": "b"}, [{"a": "b"}]), ([{"a": "b"}, "mod.f"], [{"a": "b"}, "mod.f"]), ("f", ["f"])],
)
def test_the_apps_own_routes_come_first(routes: Any, before: list[Any]) -> None:
    assert extend_routes(routes, "last") == [*before, "last"]
