"""A RabbitMQ user for each TaskQueue: kept and removed through the management API, as an administrator."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.amqp import LoginRefusedError
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.topology.confinement import (
    DELAY_SINCE,
    Broker,
    QueueUser,
    build_definitions,
    find_excess,
    has_tag,
    is_sound,
)
from taskfleet_core.topology.management_client import ManagementClient

__all__ = ["QueueUsers"]

TIMEOUT_SECONDS = 30.0
IMPORT_TIMEOUT_SECONDS = 60.0
BATCH = 100  # users in one import
Row = dict[str, Any]


class QueueUsers:
    """Users of one broker and virtual host. `url` is the management API with an administrator's login.

    All methods raise LoginRefusedError where the login may not do it, else BrokerUnavailableError.
    """

    def __init__(self, url: str, address: BrokerAddress) -> None:
        self.delays: bool | None = None  # whether these users may send what shall wait; None: not known yet
        self._virtual_host = address.virtual_host
        self._client = ManagementClient(url, address, timeout_seconds=TIMEOUT_SECONDS)

    async def ensure(self, users: Sequence[QueueUser], tag: str) -> list[str]:
        """Have these users with exactly their rights; returns the names of those that had to be made or mended.

        `tag` marks the users of one operator: it finds them again by it, and nobody else's.
        """
        before, delays = await self._look()
        self.delays = delays
        here = self._virtual_host
        due = [user for user in users if not is_sound(user, before, here, tag, delays=delays)]
        for user in due:
            for kind, host, exchange in find_excess(user, before, here, delays=delays):
                parts = [kind, host, user.name, *([exchange] if exchange else [])]
                await self._delete("/".join(quote(part, safe="") for part in parts))
        for start in range(0, len(due), BATCH):
            definitions = build_definitions(due[start : start + BATCH], here, tag, delays=delays)
            self._client.check(await self._ask("POST", "definitions", definitions, IMPORT_TIMEOUT_SECONDS))
        return [user.name for user in due]

    async def collect(self, in_use: Collection[str], tag: str) -> tuple[list[str], list[str]]:
        """Delete the users with this tag that are not in use; their connections end. Returns the names of those that
        are gone and of those that stay."""
        response = await self._ask("GET", "users?columns=name,tags")
        names = [row["name"] for row in self._client.read_list(response) if has_tag(row, tag)]
        gone = [name for name in names if name not in in_use]
        for name in gone:
            await self._delete(f"users/{quote(name, safe='')}")
        return gone, [name for name in names if name in in_use]

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def _look(self) -> tuple[Broker, bool]:
        """What is there, and whether rights on routing keys are of use."""
        # All definitions: lists of one virtual host are for those who have rights in it, which this login needs not.
        response = await self._ask("GET", "definitions", timeout_seconds=IMPORT_TIMEOUT_SECONDS)
        told = self._client.read_object(response)
        if "users" not in told:
            raise BrokerUnavailableError(f"{self._client.label} told no definitions")
        try:
            delays = int(str(told.get("rabbitmq_version") or told.get("rabbit_version")).split(".")[0]) >= DELAY_SINCE
        except ValueError:
            raise BrokerUnavailableError(f"{self._client.label} does not tell its version") from None
        here = (row for row in told.get("bindings", ()) if row["vhost"] == self._virtual_host)
        broker = Broker(
            {row["name"]: row for row in told["users"]},
            _group(told.get("permissions", ())),
            _group(told.get("topic_permissions", ())),
            frozenset((row["source"], row["destination"]) for row in here),
        )
        return broker, delays

    async def _delete(self, path: str) -> None:
        self._client.check(await self._ask("DELETE", path), 404)

    async def _ask(
        self, method: str, path: str, body: Row | None = None, timeout_seconds: float | None = None
    ) -> httpx.Response:
        response = await self._client.request(method, f"/api/{path}", body, timeout_seconds)
        if response.status_code in (401, 403):
            what = "refuses the login" if response.status_code == 401 else "does not let this login manage users"
            raise LoginRefusedError(f"{self._client.label} {what}")
        return response


def _group(rows: Iterable[Row]) -> Mapping[str, tuple[Row, ...]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["user"]].append(row)
    return {user: tuple(group) for user, group in groups.items()}
