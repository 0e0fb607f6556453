"""Requests to RabbitMQ's management API: one login, connections that are kept, failures as errors of a broker."""

from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from taskfleet_core.addresses import BrokerAddress, split_http_login
from taskfleet_core.errors import BrokerUnavailableError
from taskfleet_core.tls import build_http_verification

__all__ = ["ManagementClient", "get_reason"]

# RabbitMQ ends connections on which nothing was asked for five seconds.
KEEPALIVE_SECONDS = 4.0

Value = TypeVar("Value")


class ManagementClient:
    """The API at `url`, which may carry the login; else it is that of the AMQP address."""

    def __init__(self, url: str, address: BrokerAddress, *, timeout_seconds: float) -> None:
        """`timeout_seconds` bounds each connect, and each request for which no other limit is given.

        Raises OSError when a certificate file of the address cannot be read, ssl.SSLError when it holds none.
        """
        base, login = split_http_login(url, address)
        self.label = f"the management API at {urlsplit(base).netloc}"
        self._timeout_seconds = timeout_seconds
        self._client = httpx.AsyncClient(
            base_url=base,
            auth=login,
            limits=httpx.Limits(keepalive_expiry=KEEPALIVE_SECONDS),
            verify=build_http_verification(base, address),
        )

    async def request(
        self, method: str, path: str, body: Any = None, timeout_seconds: float | None = None
    ) -> httpx.Response:
        """Ask for something that may be asked for twice. Raises BrokerUnavailableError when there is no answer."""
        timeout = httpx.Timeout(timeout_seconds or self._timeout_seconds, connect=self._timeout_seconds)
        try:
            try:
                return await self._client.request(method, path, json=body, timeout=timeout)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                # The connection ended under the request.
                return await self._client.request(method, path, json=body, timeout=timeout)
        except (httpx.HTTPError, OSError) as error:
            raise BrokerUnavailableError(
                f"{self.label} does not answer: {str(error) or type(error).__name__}"
            ) from error

    def check(self, response: httpx.Response, *allowed: int) -> None:
        """Raises BrokerUnavailableError for an answer that is an error, but for these statuses."""
        if response.is_error and response.status_code not in allowed:
            raise BrokerUnavailableError(f"{self.label} answered {response.status_code}: {get_reason(response)}")

    def read_list(self, response: httpx.Response) -> list[Any]:
        """The rows of an answer. Raises BrokerUnavailableError when it is an error, or holds something else."""
        return self._read(response, list, "list")

    def read_object(self, response: httpx.Response) -> dict[str, Any]:
        """The object of an answer. Raises BrokerUnavailableError when it is an error, or holds something else."""
        return self._read(response, dict, "object")

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    def _read(self, response: httpx.Response, kind: type[Value], name: str) -> Value:
        self.check(response)
        try:
            value = response.json()
        except ValueError:
            value = None
        if not isinstance(value, kind):
            raise BrokerUnavailableError(f"{self.label} answered something else than a JSON {name}")
        return value


def get_reason(response: httpx.Response) -> str:
    """RabbitMQ's words for a refusal, else HTTP's."""
    try:
        return str(response.json().get("reason", response.reason_phrase))
    except (ValueError, AttributeError):
        return response.reason_phrase
