"""One call of a receiver: resolved once, checked, connected to the checked address, bounded in time and in bytes.

httpcore itself rather than httpx: it follows no redirect, reads no proxy from the environment, keeps no cookies, and
lets us open the connections.
"""

import asyncio
import contextlib
import socket
import ssl
import typing
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address

import httpcore
import httpx

from taskfleet_api.callbacks.addresses import Address
from taskfleet_api.callbacks.policy import CallbackPolicy, RefusedReceiverError, Target

__all__ = ["CallbackClient", "Delivery"]

RESOLVER_THREADS = 32
GONE = 410


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of one call. `error` None: delivered. `final`: the receiver wants no more of it."""

    error: str | None = None
    status: int | None = None
    retry_after_seconds: float | None = None
    final: bool = False


class CallbackClient:
    """Calls receivers. Safe for concurrent use within one event loop; close it in the end."""

    def __init__(self, policy: CallbackPolicy, timeout_seconds: float) -> None:
        self._policy = policy
        self._timeout_seconds = timeout_seconds
        # Of its own: names that do not resolve must not take the threads of others.
        self._resolver = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="callback-resolver")
        self._tls = httpx.create_ssl_context(trust_env=True)

    async def close(self) -> None:
        """Give up the threads; a name that is being resolved is not waited for."""
        self._resolver.shutdown(wait=False, cancel_futures=True)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Delivery:
        """Call the receiver once. Never raises for what the receiver does or is."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                target = self._policy.check(url)
                return await self._post(target, await self._resolve(target), headers, body)
        except TimeoutError:
            return Delivery(f"no answer within {self._timeout_seconds:g} s")
        except RefusedReceiverError as error:
            return Delivery(f"refused: {error}")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            return Delivery(_describe(error))

    async def _resolve(self, target: Target) -> list[Address]:
        """All addresses of the host, each of them checked. Raises RefusedReceiverError and OSError."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._resolver, lambda: socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        )
        addresses = list(dict.fromkeys(ip_address(str(item[4][0])) for item in found))
        self._policy.check_addresses(target, addresses)
        return addresses

    async def _post(
        self, target: Target, addresses: list[Address], headers: Mapping[str, str], body: bytes
    ) -> Delivery:
        url = httpcore.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.target.encode()
        )
        fields = {"Host": target.authority, "Connection": "close", "Content-Length": str(len(body)), **headers}
        pool = httpcore.AsyncConnectionPool(
            ssl_context=self._tls, max_connections=1, network_backend=_Pinned(addresses), retries=0
        )
        async with pool, pool.stream("POST", url, headers=list(fields.items()), content=body) as response:
            return _judge(response)  # the body is not read: nothing in it could change the outcome


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that were checked and to nothing else, whatever the name resolves to by now."""

    def __init__(self, addresses: list[Address]) -> None:
        self._addresses = addresses
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[typing.Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first address that answers."""
        for address in self._addresses[:-1]:
            with contextlib.suppress(httpcore.ConnectError, OSError):
                return await self._backend.connect_tcp(str(address), port, timeout, local_address, socket_options)
        return await self._backend.connect_tcp(str(self._addresses[-1]), port, timeout, local_address, socket_options)


def _judge(response: httpcore.Response) -> Delivery:
    """The outcome by the status alone; what the receiver says besides is not read."""
    status = response.status
    if 200 <= status < 300:
        return Delivery(status=status)
    if 300 <= status < 400:
        return Delivery(f"answered {status}: redirects are not followed", status)
    if status == GONE:
        return Delivery(f"answered {status}: it wants no more", status, final=True)
    return Delivery(f"answered {status}", status, _parse_retry_after(response))


def _parse_retry_after(response: httpcore.Response) -> float | None:
    value = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"")
    return float(value) if value.isdigit() and len(value) < 7 else None


def _describe(error: Exception) -> str:
    """What went wrong in plain words; an error's own text may name inner addresses."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "the TLS handshake failed"
        if isinstance(cause, socket.gaierror):
            return "the host name does not resolve"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout):
        return "no connection"
    return "the connection ended before an answer"
