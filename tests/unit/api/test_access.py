"""What a caller may do, and what exists for it."""

import pytest

from taskfleet_api.access import ANYBODY, Caller, KeyScope, acting_as, find_scope, get_caller


@pytest.mark.parametrize(
    ("method", "path", "needed"),
    [
        ("POST", "/api/v1/tasks", "submit"),
        ("POST", "/api/v1/tasks:batch", "submit"),
        ("POST", "/api/v1/tasks/1:retry", "submit"),
        ("GET", "/api/v1/tasks", "read"),
        ("GET", "/api/v1/tasks/1/events", "read"),
        ("DELETE", "/api/v1/tasks/1", "cancel"),
        ("GET", "/api/v1/queues/jobs/tasks", "read"),
        ("POST", "/api/v1/queues/jobs/dead:purge", "admin"),
        ("GET", "/api/v1/schedules", "read"),
        ("PUT", "/api/v1/schedules/nightly", "submit"),
        ("DELETE", "/api/v1/schedules/nightly", "submit"),
        ("GET", "/api/v1/keys", "admin"),
        ("POST", "/api/v1/keys", "admin"),
        ("GET", "/api/v1/something-new", "admin"),
        ("PATCH", "/api/v1/tasks/1", "admin"),
        ("POST", "/send-message", "submit"),
        ("GET", "/tasks/1", "read"),
        ("DELETE", "/tasks/1", "admin"),
    ],
)
def test_every_request_needs_a_scope_and_unknown_ones_the_highest(method: str, path: str, needed: str) -> None:
    assert find_scope(method, path) == needed


@pytest.mark.parametrize(
    ("queues", "queue", "seen"),
    [
        (None, "mail", True),
        (("mail",), "mail", True),
        (("mail",), "mails", False),
        (("shop-*",), "shop-orders", True),
        (("shop-*",), "shop", False),
        (("mail", "shop-*"), "other", False),
        (("*",), "other", True),
        ((), "mail", False),
    ],
)
def test_queues_are_names_or_beginnings(queues: tuple[str, ...] | None, queue: str, seen: bool) -> None:
    assert Caller("key:x", frozenset(), queues).sees(queue) is seen


def test_admin_includes_the_other_scopes() -> None:
    assert all(ANYBODY.may(scope) for scope in KeyScope)
    assert not Caller("key:x", frozenset({KeyScope.READ})).may(KeyScope.SUBMIT)


def test_the_caller_holds_for_the_request_in_hand_only() -> None:
    caller = Caller("key:x", frozenset({KeyScope.READ}))
    with acting_as(caller):
        assert get_caller() is caller
    assert get_caller() is ANYBODY
