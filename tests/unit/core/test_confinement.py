"""The rights of a queue's own broker user: names are matched whole, and the delays are those that Celery knows."""

import base64
import hashlib
import re
from typing import Any

import pytest
from kombu.transport.native_delayed_delivery import declare_native_delayed_delivery_exchanges_and_queues

from taskfleet_core import wire
from taskfleet_core.topology.confinement import (
    Broker,
    QueueUser,
    build_definitions,
    build_rights,
    find_excess,
    is_sound,
)

USER = QueueUser("taskfleet.team.a", "secret", ("a.b", "c-d"), ("other",))
DELAY = "0." * 28
TAG = "taskfleet-1"


@pytest.mark.parametrize(
    ("name", "may_read", "may_write"),
    [
        ("a.b", True, False),
        ("c-d", True, False),
        ("other", False, False),
        ("axb", False, False),
        ("a.b.dead", False, False),
        ("x.a.b", False, False),
        (wire.send_exchange("a.b"), False, True),
        (wire.send_exchange("other"), False, True),
        (wire.send_exchange("axb"), False, False),
        (wire.send_exchange("others"), False, False),
        (wire.DELAY_EXCHANGE, False, True),
        ("amq.default", False, False),
        ("celery_delayed_27", False, False),
    ],
)
def test_names_are_matched_whole(name: str, may_read: bool, may_write: bool) -> None:
    rights = build_rights(USER, delays=True)
    assert bool(re.search(rights.read, name)) is may_read
    assert bool(re.search(rights.write, name)) is may_write
    assert not re.search(rights.configure, name)


@pytest.mark.parametrize(
    ("key", "is_allowed"),
    [
        (DELAY + "a.b", True),
        ("1.0." * 14 + "other", True),
        ("a.b", False),
        (DELAY + "x.a.b", False),
        (DELAY + "axb", False),
        (DELAY.replace("0", "#", 1) + "a.b", False),
    ],
)
def test_what_waits_goes_to_the_same_queues(key: str, is_allowed: bool) -> None:
    pattern = build_rights(USER, delays=True).delayed
    assert pattern is not None
    assert bool(re.search(pattern, key)) is is_allowed


def test_without_delays_their_exchange_is_out_of_reach() -> None:
    rights = build_rights(USER, delays=False)
    assert rights.delayed is None
    assert not re.search(rights.write, wire.DELAY_EXCHANGE)
    definitions = build_definitions([USER], "/", TAG, delays=False)
    assert (definitions["queues"], definitions["topic_permissions"]) == ([], [])


class Recorder:
    """A channel that notes what kombu declares."""

    def __init__(self) -> None:
        self.exchanges: set[tuple[str, str]] = set()
        self.queues: dict[str, Any] = {}
        self.bindings: set[tuple[str, str, str, str]] = set()

    def channel(self) -> "Recorder":
        return self

    def exchange_declare(self, exchange: str, type: str, **options: Any) -> None:
        assert options["durable"]
        self.exchanges.add((exchange, type))

    def prepare_queue_arguments(self, arguments: Any, **options: Any) -> Any:
        return arguments

    def queue_declare(self, queue: str, arguments: Any = None, **options: Any) -> Any:
        assert options["durable"]
        self.queues[queue] = arguments
        return queue, 0, 0

    def queue_bind(self, queue: str, exchange: str, routing_key: str, **options: Any) -> None:
        if exchange:
            self.bindings.add((exchange, queue, "queue", routing_key))

    def exchange_bind(self, destination: str, source: str, routing_key: str, **options: Any) -> None:
        self.bindings.add((source, destination, "exchange", routing_key))


def test_the_delays_are_those_of_kombu() -> None:
    theirs = Recorder()
    declare_native_delayed_delivery_exchanges_and_queues(theirs, "quorum")
    ours = build_definitions([], "/", TAG, delays=True)
    assert {row["name"]: row["arguments"] for row in ours["queues"]} == theirs.queues
    assert {(row["name"], row["type"]) for row in ours["exchanges"]} >= theirs.exchanges
    bindings = {
        (row["source"], row["destination"], row["destination_type"], row["routing_key"]) for row in ours["bindings"]
    }
    assert bindings - theirs.bindings == {(wire.DELAY_EXCHANGE, "celery_delayed_27", "exchange", "#")}
    assert theirs.bindings <= bindings


def as_told(definitions: dict[str, Any], password: str) -> Broker:
    """What a broker tells after an import."""
    salt = b"salt"
    digest = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    told = {"password_hash": digest, "hashing_algorithm": "rabbit_password_hashing_sha256"}
    return Broker(
        {row["name"]: {**row, **told} for row in definitions["users"]},
        {row["user"]: (row,) for row in definitions["permissions"]},
        {row["user"]: (row,) for row in definitions["topic_permissions"]},
        {(row["source"], row["destination"]) for row in definitions["bindings"]},
    )


@pytest.mark.parametrize("delays", [True, False])
def test_what_was_imported_is_sound_and_a_change_is_not(delays: bool) -> None:
    broker = as_told(build_definitions([USER], "/", TAG, delays=delays), "secret")
    assert is_sound(USER, broker, "/", TAG, delays=delays)
    assert not is_sound(
        USER, as_told(build_definitions([USER], "/", TAG, delays=delays), "other"), "/", TAG, delays=delays
    )
    assert not is_sound(USER, broker, "/", "taskfleet-2", delays=delays)
    assert not is_sound(USER, broker, "/", TAG, delays=not delays)
    wider = QueueUser(USER.name, USER.password, USER.queues, ("other", "more"))
    assert not is_sound(wider, broker, "/", TAG, delays=delays)


def test_rights_in_other_places_are_found() -> None:
    definitions = build_definitions([USER], "/", TAG, delays=True)
    broker = as_told(definitions, "secret")
    assert find_excess(USER, broker, "/", delays=True) == []
    assert find_excess(USER, broker, "/", delays=False) == [("topic-permissions", "/", wire.DELAY_EXCHANGE)]
    (rights,) = definitions["permissions"]
    more = Broker(broker.users, {USER.name: (rights, {**rights, "vhost": "else"})}, {}, broker.bindings)
    assert find_excess(USER, more, "/", delays=True) == [("permissions", "else", "")]
    assert not is_sound(USER, more, "/", TAG, delays=True)


def test_a_password_is_not_printed() -> None:
    assert "secret" not in repr(USER)
