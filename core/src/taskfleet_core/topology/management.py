"""The few calls of RabbitMQ's management API that AMQP itself does not offer: policies, and a look at all queues."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from taskfleet_core.addresses import BrokerAddress, split_http_login
from taskfleet_core.errors import BrokerUnavailableError

__all__ = ["Management", "PolicyRefusedError", "Survey", "guess_management_url"]

# Above the policies that people make for everything: only the policy of highest priority applies to a queue.
POLICY_PRIORITY = 100
# Neither statistics nor totals: the cheap form, which also 3.x knows.
QUEUE_QUERY = "disable_stats=true&enable_queue_totals=false&columns=name,type,policy"

# RabbitMQ ends connections on which nothing was asked for five seconds.
KEEPALIVE_SECONDS = 4.0


class PolicyRefusedError(Exception):
    """The broker knows a policy key not, or not this value; the text is RabbitMQ's."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is at a virtual host: two requests, whatever the number of queues."""

    queues: Mapping[str, tuple[str, str | None]]  # name -> type, and the policy that applies
    policies: Mapping[str, Mapping[str, Any]]  # name -> definition, of policies as Taskfleet makes them


def guess_management_url(address: BrokerAddress) -> str:
    """Where the management API usually is."""
    return f"https://{address.url_host}:15671" if address.tls else f"http://{address.url_host}:15672"


class Management:
    """Credentials come from the URL, else from the AMQP address."""

    def __init__(self, url: str, address: BrokerAddress, *, timeout_seconds: float = 5.0) -> None:
        base, login = split_http_login(url, address)
        self.label = urlsplit(base).netloc
        self._virtual_host = quote(address.virtual_host, safe="")
        self._client = httpx.AsyncClient(
            base_url=base, auth=login, timeout=timeout_seconds, limits=httpx.Limits(keepalive_expiry=KEEPALIVE_SECONDS)
        )

    async def fetch_survey(self) -> Survey:
        """All queues and policies of the virtual host. Raises BrokerUnavailableError."""
        queues = await self._fetch_list(f"/api/queues/{self._virtual_host}?{QUEUE_QUERY}")
        policies = await self._fetch_list(f"/api/policies/{self._virtual_host}")
        return Survey(
            {row["name"]: (row.get("type", ""), row.get("policy") or None) for row in queues},
            {row["name"]: row["definition"] for row in policies if _is_as_made(row)},
        )

    async def put_policy(self, name: str, pattern: str, definition: Mapping[str, Any]) -> None:
        """Make or replace a policy for queues. Raises PolicyRefusedError, BrokerUnavailableError."""
        body = {
            "pattern": pattern,
            "definition": dict(definition),
            "priority": POLICY_PRIORITY,
            "apply-to": "queues",
        }
        response = await self._request("PUT", self._get_policy_path(name), body)
        if response.status_code == 400:
            raise PolicyRefusedError(str(_reason(response)))
        self._check(response)

    async def delete_policy(self, name: str) -> None:
        """Delete a policy; an absent one is no error. Raises BrokerUnavailableError."""
        response = await self._request("DELETE", self._get_policy_path(name), None)
        if response.status_code != 404:
            self._check(response)

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def _fetch_list(self, path: str) -> list[Any]:
        response = await self._request("GET", path, None)
        self._check(response)
        try:
            rows = response.json()
        except ValueError:
            rows = None
        if not isinstance(rows, list):
            raise BrokerUnavailableError(f"the management API at {self.label} answered something else than a list")
        return rows

    def _get_policy_path(self, name: str) -> str:
        return f"/api/policies/{self._virtual_host}/{quote(name, safe='')}"

    async def _request(self, method: str, path: str, body: Any) -> httpx.Response:
        try:
            try:
                return await self._client.request(method, path, json=body)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                # The connection ended under the request. Every request here may be made twice.
                return await self._client.request(method, path, json=body)
        except (httpx.HTTPError, OSError) as error:
            why = str(error) or type(error).__name__
            raise BrokerUnavailableError(f"the management API at {self.label} does not answer: {why}") from error

    def _check(self, response: httpx.Response) -> None:
        if response.is_error:
            raise BrokerUnavailableError(
                f"the management API at {self.label} answered {response.status_code}: {_reason(response)}"
            )


def _is_as_made(row: Mapping[str, Any]) -> bool:
    """Whether a policy, whatever it defines, is one that applies as Taskfleet's do: somebody may have edited it."""
    return row.get("priority") == POLICY_PRIORITY and row.get("apply-to") == "queues"


def _reason(response: httpx.Response) -> Any:
    try:
        return response.json().get("reason", response.reason_phrase)
    except (ValueError, AttributeError):
        return response.reason_phrase
