"""Which rights a RabbitMQ user needs that serves the queues of one TaskQueue and no others. Pure.

Such a user declares nothing: whoever may declare a queue or an exchange can have its messages forwarded (dead-letter
exchange, alternate exchange) to where he may not publish himself. It sends to a queue through an exchange that leads
there alone; the default exchange would take it to any queue. See docs/decisions/0013.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskfleet_core import wire

__all__ = [
    "DELAY_SINCE",
    "Broker",
    "QueueUser",
    "Rights",
    "build_definitions",
    "build_rights",
    "find_excess",
    "has_tag",
    "is_sound",
]

NOTHING = "^$"
QUORUM = {"x-queue-type": "quorum"}
DELAY_LEVELS = 28  # as in kombu, whose names and arguments these are
DELIVERY_EXCHANGE = "celery_delayed_delivery"
DELAY_MARKER = "taskfleet_delayed_declared"  # workers without a user of their own look for it before they declare
# Before 4.0 rights on routing keys do not hold for those in the headers CC and BCC.
DELAY_SINCE = 4  # major version
_HASHES = {"rabbit_password_hashing_sha256": "sha256", "rabbit_password_hashing_sha512": "sha512"}

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class QueueUser:
    """The broker user of one TaskQueue."""

    name: str
    password: str = field(repr=False)
    queues: tuple[str, ...]  # that it consumes
    sends_to: tuple[str, ...] = ()  # queues of others

    @property
    def targets(self) -> tuple[str, ...]:
        """All queues that it may send to: a retry goes to its own."""
        return tuple(dict.fromkeys((*self.queues, *self.sends_to)))


@dataclass(frozen=True, slots=True)
class Rights:
    """Regular expressions of what a user may do in a virtual host, as RabbitMQ has them."""

    write: str
    read: str
    configure: str = NOTHING
    delayed: str | None = None  # routing keys at the delay exchange; None: it is out of reach


@dataclass(frozen=True, slots=True)
class Broker:
    """What is at the broker now."""

    users: Mapping[str, Row]
    permissions: Mapping[str, tuple[Row, ...]]  # by user
    topic_permissions: Mapping[str, tuple[Row, ...]]  # by user
    bindings: Collection[tuple[str, str]]  # (exchange, queue or exchange)


def build_rights(user: QueueUser, *, delays: bool) -> Rights:
    """The least that its workers need."""
    exchanges = [wire.send_exchange(queue) for queue in user.targets]
    return Rights(
        write=_match([*exchanges, *([wire.DELAY_EXCHANGE] if delays else [])]),
        read=_match(user.queues),
        delayed=f"^(?:[01]\\.){{{DELAY_LEVELS}}}(?:{_join(user.targets)})$" if delays else None,
    )


def build_definitions(users: Iterable[QueueUser], virtual_host: str, tag: str, *, delays: bool) -> Row:
    """Users, rights, and the exchanges by which they send, as RabbitMQ imports definitions: what is there is left or
    put right. The queues must exist."""
    users = list(users)
    here = {"vhost": virtual_host}
    rights = {user.name: build_rights(user, delays=delays) for user in users}
    queues = sorted({queue for user in users for queue in user.queues})
    exchanges = [_exchange(wire.send_exchange(queue), "fanout") for queue in queues]
    bindings = [_bind(wire.send_exchange(queue), queue) for queue in queues]
    delay = _build_delays() if delays else {"exchanges": [], "queues": [], "bindings": []}
    if delays:
        bindings += [_bind(DELIVERY_EXCHANGE, queue, "*." * DELAY_LEVELS + queue) for queue in queues]
    return {
        "users": [{"name": user.name, "password": user.password, "tags": [tag]} for user in users],
        "permissions": [
            {**here, "user": name, "configure": each.configure, "write": each.write, "read": each.read}
            for name, each in rights.items()
        ],
        "topic_permissions": [
            {**here, "user": name, "exchange": wire.DELAY_EXCHANGE, "write": each.delayed, "read": NOTHING}
            for name, each in rights.items()
            if each.delayed is not None
        ],
        "exchanges": [{**here, **row} for row in (*exchanges, *delay["exchanges"])],
        "queues": [{**here, **row} for row in delay["queues"]],
        "bindings": [{**here, **row} for row in (*delay["bindings"], *bindings)],
    }


def is_sound(user: QueueUser, broker: Broker, virtual_host: str, tag: str, *, delays: bool) -> bool:
    """Whether a user is at the broker as it should be, with what it sends through; no right more, none less."""
    row = broker.users.get(user.name)
    if row is None or _read_tags(row) != [tag] or not _verify(row, user.password):
        return False
    rights = build_rights(user, delays=delays)
    wanted = {(virtual_host, rights.configure, rights.write, rights.read)}
    topics = set() if rights.delayed is None else {(virtual_host, wire.DELAY_EXCHANGE, rights.delayed, NOTHING)}
    return (
        {_take(item, "vhost", "configure", "write", "read") for item in broker.permissions.get(user.name, ())} == wanted
        and {_take(item, "vhost", "exchange", "write", "read") for item in broker.topic_permissions.get(user.name, ())}
        == topics
        and all((wire.send_exchange(queue), queue) in broker.bindings for queue in user.queues)
        and (not delays or _can_delay(user, broker))
    )


def find_excess(user: QueueUser, broker: Broker, virtual_host: str, *, delays: bool) -> list[tuple[str, str, str]]:
    """Rights that somebody gave to a user beside its own and an import does not take: (permissions or
    topic-permissions, virtual host, exchange)."""
    excess = [("permissions", row["vhost"], "") for row in broker.permissions.get(user.name, ())]
    excess = [item for item in excess if item[1] != virtual_host]
    kept = (virtual_host, wire.DELAY_EXCHANGE) if delays else None
    for row in broker.topic_permissions.get(user.name, ()):
        if (row["vhost"], row["exchange"]) != kept:
            excess.append(("topic-permissions", row["vhost"], row["exchange"]))
    return excess


def has_tag(row: Row, tag: str) -> bool:
    """Whether a user is marked as one of this operator's."""
    return tag in _read_tags(row)


def _can_delay(user: QueueUser, broker: Broker) -> bool:
    ends = all((DELIVERY_EXCHANGE, queue) in broker.bindings for queue in user.queues)
    levels = [_level(number) for number in range(DELAY_LEVELS - 1, -1, -1)]
    chain = zip([wire.DELAY_EXCHANGE, *levels], [*levels, DELIVERY_EXCHANGE], strict=True)
    return ends and all(link in broker.bindings for link in chain)


def _build_delays() -> dict[str, list[Row]]:
    """kombu's exchanges and queues for native delayed delivery, and the exchange that leads into them."""
    levels = range(DELAY_LEVELS - 1, -1, -1)
    exchanges = [_exchange(_level(level), "topic") for level in levels]
    exchanges += [_exchange(name, "topic") for name in (DELIVERY_EXCHANGE, wire.DELAY_EXCHANGE, DELAY_MARKER)]
    queues, bindings = [], [_link(wire.DELAY_EXCHANGE, _level(DELAY_LEVELS - 1), "#")]
    for level in levels:
        following = _level(level - 1) if level else DELIVERY_EXCHANGE
        arguments = {
            **QUORUM,
            "x-overflow": "reject-publish",
            "x-message-ttl": 2**level * 1000,
            "x-dead-letter-exchange": following,
            "x-dead-letter-strategy": "at-least-once",
        }
        queues.append({"name": _level(level), "durable": True, "auto_delete": False, "arguments": arguments})
        before = "*." * (DELAY_LEVELS - 1 - level)  # the digits of the levels above, whatever they say
        bindings.append(_bind(_level(level), _level(level), f"{before}1.#"))
        bindings.append(_link(_level(level), following, f"{before}0.#"))
    return {"exchanges": exchanges, "queues": queues, "bindings": bindings}


def _level(number: int) -> str:
    return f"celery_delayed_{number}"


def _exchange(name: str, kind: str) -> Row:
    return {"name": name, "type": kind, "durable": True, "auto_delete": False, "internal": False, "arguments": {}}


def _bind(exchange: str, queue: str, key: str = "") -> Row:
    return {
        "source": exchange,
        "destination": queue,
        "destination_type": "queue",
        "routing_key": key,
        "arguments": {},
    }


def _link(exchange: str, other: str, key: str) -> Row:
    return {**_bind(exchange, other, key), "destination_type": "exchange"}


def _match(names: Iterable[str]) -> str:
    return f"^(?:{_join(names)})$"


def _join(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in names)


def _take(row: Row, *names: str) -> tuple[str, ...]:
    return tuple(row[name] for name in names)


def _read_tags(row: Row) -> list[str]:
    tags = row.get("tags") or []
    return tags.split(",") if isinstance(tags, str) else list(tags)


def _verify(row: Row, password: str) -> bool:
    """Whether this is the user's password, by the salted hash that an administrator may read."""
    method = _HASHES.get(row.get("hashing_algorithm", ""))
    try:
        known = base64.b64decode(row.get("password_hash") or "", validate=True)
    except binascii.Error:
        return False
    if method is None or len(known) < 5:
        return False
    salt, digest = known[:4], known[4:]
    return hmac.compare_digest(hashlib.new(method, salt + password.encode()).digest(), digest)
