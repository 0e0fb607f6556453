"""The few calls of RabbitMQ's management API that AMQP itself does not offer: policies, and a look at all queues."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from taskfleet_core.addresses import BrokerAddress
from taskfleet_core.topology.management_client import ManagementClient, get_reason
from taskfleet_core.topology.policies import Policy

__all__ = ["Management", "PolicyRefusedError", "Survey", "guess_management_url"]

# Neither statistics nor totals: the cheap form, which also 3.x knows.
QUEUE_QUERY = "disable_stats=true&enable_queue_totals=false&columns=name,type,policy"

# A change of a policy is answered when RabbitMQ has looked at all its queues: seconds, where there are thousands.
CHANGE_TIMEOUT_SECONDS = 60.0


class PolicyRefusedError(Exception):
    """The broker knows a policy key not, or not this value; the text is RabbitMQ's."""

    def __init__(self, text: str, definition: Mapping[str, Any]) -> None:
        super().__init__(text)
        self.definition = definition


@dataclass(frozen=True, slots=True)
class Survey:
    """What is at a virtual host: two requests or three, whatever the number of queues."""

    queues: Mapping[str, tuple[str, str | None]]  # name -> type, and the policy that applies
    policies: Mapping[str, Policy]
    bindings: frozenset[tuple[str, str]] = frozenset()  # of the dead-letter exchange: (dead-letter queue, its queue)


def guess_management_url(address: BrokerAddress) -> str:
    """Where the management API usually is."""
    return f"https://{address.url_host}:15671" if address.tls else f"http://{address.url_host}:15672"


class Management:
    """Credentials come from the URL, else from the AMQP address."""

    def __init__(self, url: str, address: BrokerAddress, *, timeout_seconds: float = 5.0) -> None:
        self._client = ManagementClient(url, address, timeout_seconds=timeout_seconds)
        self._virtual_host = quote(address.virtual_host, safe="")

    async def fetch_survey(self, *, exchange: str | None = None, header: str = "") -> Survey:
        """All queues and policies of the virtual host, and what is bound to an exchange by a header.

        Raises BrokerUnavailableError.
        """
        queues = await self._fetch_list(f"/api/queues/{self._virtual_host}?{QUEUE_QUERY}")
        policies = await self.fetch_policies()
        path = f"/api/exchanges/{self._virtual_host}/{quote(exchange or '', safe='')}/bindings/source"
        bindings = await self._fetch_list(path) if exchange else []
        return Survey(
            {row["name"]: (row.get("type", ""), row.get("policy") or None) for row in queues},
            {policy.name: policy for policy in policies},
            frozenset((row["destination"], row.get("arguments", {}).get(header, "")) for row in bindings),
        )

    async def fetch_policies(self) -> list[Policy]:
        """All policies of the virtual host. Raises BrokerUnavailableError."""
        rows = await self._fetch_list(f"/api/policies/{self._virtual_host}")
        return [
            Policy(row["name"], row["pattern"], row["definition"], row.get("priority", 0), row.get("apply-to", ""))
            for row in rows
        ]

    async def apply_policy(self, policy: Policy) -> None:
        """Make or replace a policy, or delete it if it has no pattern; an absent one is no error.

        Raises PolicyRefusedError, BrokerUnavailableError.
        """
        path = f"/api/policies/{self._virtual_host}/{quote(policy.name, safe='')}"
        if not policy.pattern:
            response = await self._client.request("DELETE", path, timeout_seconds=CHANGE_TIMEOUT_SECONDS)
            self._client.check(response, 404)
            return
        body = {
            "pattern": policy.pattern,
            "definition": dict(policy.definition),
            "priority": policy.priority,
            "apply-to": policy.apply_to,
        }
        response = await self._client.request("PUT", path, body, CHANGE_TIMEOUT_SECONDS)
        if response.status_code == 400:
            raise PolicyRefusedError(get_reason(response), policy.definition)
        self._client.check(response)

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()

    async def _fetch_list(self, path: str) -> list[Any]:
        response = await self._client.request("GET", path)
        # An exchange that is not there has nothing bound.
        return [] if response.status_code == 404 else self._client.read_list(response)
