"""A RabbitMQ user for each TaskQueue: kept and removed through the management API, as an administrator."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from taskfleet_core.addresses import BrokerAddress, split_http_login
from taskfleet_core.amqp import LoginRefusedError
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.tls import build_http_verification
from taskfleet_core.topology.confinement import (
    DELAY_SINCE,
    Broker,
    QueueUser,
    build_definitions,
    find_excess,
    has_tag,
    is_sound,
)

__all__ = ["QueueUsers"]

TIMEOUT_SECONDS = 30.0
IMPORT_TIMEOUT_SECONDS = 60.0
BATCH = 100  # users in one import
KEEPALIVE_SECONDS = 4.0  # RabbitMQ ends idle connections after five
Row = dict[str, Any]


class QueueUsers:
    """Users of one broker and virtual host. `url` is the management API with an administrator's login.

    All methods raise LoginRefusedError where the login may not do it, else BrokerUnavailableError.
    """

    def __init__(self, url: str, address: BrokerAddress) -> None:
        base, login = split_http_login(url, address)
        self.label = urlsplit(base).netloc
        self.delays: bool | None = None  # whether these users may send what shall wait; None: not known yet
        self._virtual_host = address.virtual_host
        self._client = httpx.AsyncClient(
            base_url=base,
            auth=login,
            timeout=TIMEOUT_SECONDS,
            limits=httpx.Limits(keepalive_expiry=KEEPALIVE_SECONDS),
            verify=build_http_verification(base, address),
        )

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
                await self._call("DELETE", "/api/" + "/".join(quote(part, safe="") for part in parts))
        for start in range(0, len(due), BATCH):
            definitions = build_definitions(due[start : start + BATCH], here, tag, delays=delays)
            await self._call("POST", "/api/definitions", definitions, IMPORT_TIMEOUT_SECONDS)
        return [user.name for user in due]

    async def collect(self, in_use: Collection[str], tag: str) -> list[str]:
        """Delete the users with this tag that are not in use; returns their names. Their connections end."""
        rows = await self._list("/api/users?columns=name,tags")
        gone = [row["name"] for row in rows if has_tag(row, tag) and row["name"] not in in_use]
        for name in gone:
            await self._call("DELETE", f"/api/users/{quote(name, safe='')}")
        return gone

    async def list_names(self, tag: str) -> set[str]:
        """The users with this tag."""
        return {row["name"] for row in await self._list("/api/users?columns=name,tags") if has_tag(row, tag)}

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def _look(self) -> tuple[Broker, bool]:
        """What is there, and whether rights on routing keys are of use."""
        # All definitions: lists of one virtual host are for those who have rights in it, which this login needs not.
        told = await self._call("GET", "/api/definitions", timeout_seconds=IMPORT_TIMEOUT_SECONDS)
        if not isinstance(told, dict) or "users" not in told:
            raise BrokerUnavailableError(f"the management API at {self.label} told no definitions")
        try:
            delays = int(str(told.get("rabbitmq_version") or told.get("rabbit_version")).split(".")[0]) >= DELAY_SINCE
        except ValueError:
            raise BrokerUnavailableError(f"the management API at {self.label} does not tell its version") from None
        here = (row for row in told.get("bindings", ()) if row["vhost"] == self._virtual_host)
        broker = Broker(
            {row["name"]: row for row in told["users"]},
            _group(told.get("permissions", ())),
            _group(told.get("topic_permissions", ())),
            frozenset((row["source"], row["destination"]) for row in here),
        )
        return broker, delays

    async def _list(self, path: str) -> list[Row]:
        rows = await self._call("GET", path)
        if not isinstance(rows, list):
            raise BrokerUnavailableError(f"the management API at {self.label} answered something else than a list")
        return rows

    async def _call(
        self, method: str, path: str, body: Row | None = None, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> Any:
        try:
            try:
                response = await self._client.request(method, path, json=body, timeout=timeout_seconds)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                # The connection ended under the request. Every request here may be made twice.
                response = await self._client.request(method, path, json=body, timeout=timeout_seconds)
        except (httpx.HTTPError, OSError) as error:
            why = str(error) or type(error).__name__
            raise BrokerUnavailableError(f"the management API at {self.label} does not answer: {why}") from error
        if response.status_code in (401, 403):
            what = "refuses the login" if response.status_code == 401 else "does not let this login manage users"
            raise LoginRefusedError(f"the management API at {self.label} {what}")
        if response.is_error and not (method == "DELETE" and response.status_code == 404):
            raise BrokerUnavailableError(
                f"the management API at {self.label} answered {response.status_code}: {response.text[:200]}"
            )
        try:
            return response.json() if response.content else None
        except ValueError:
            raise BrokerUnavailableError(f"the management API at {self.label} answered no JSON") from None


def _group(rows: Iterable[Row]) -> Mapping[str, tuple[Row, ...]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["user"]].append(row)
    return {user: tuple(group) for user, group in groups.items()}
