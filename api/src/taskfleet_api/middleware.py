"""Around every request: counting and timing, the last net under errors, and what trusted proxies say."""

import ipaddress
import time
from collections.abc import Sequence

import msgspec
import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskfleet_api.bodies import IncomingBody, has_body
from taskfleet_api.problems import INTERNAL, PROBLEM_MEDIA_TYPE, Problem
from taskfleet_api.telemetry import counter, histogram

__all__ = ["SECURITY_HEADERS", "Instrumentation", "ProxyHeaders", "count_request"]

# Answers are data: no browser shall guess another type, frame them, or run what stands in them.
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
UNTIMED_SUFFIXES = ("/events",)
log = structlog.get_logger()


class Instrumentation:
    """Counts requests by route; an error that nothing else caught becomes a 500 problem and a log line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        body = IncomingBody(receive) if has_body(scope) else None

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if body is not None:
                    await body.discard_rest()
                message = {**message, "headers": [*message.get("headers", ()), *SECURITY_HEADERS]}
            await send(message)

        try:
            await self._app(scope, body.receive if body else receive, note_status)
        except ClientDisconnect:
            status = status or 499
        except Exception:
            log.exception("request_failed", method=scope["method"], path=scope["path"])
            if not status:
                status = 500
                await _send_internal_error(scope, send)
        finally:
            count_request(scope, status, time.perf_counter() - started)


def count_request(scope: Scope, status: int, seconds: float) -> None:
    """Count and time one request by its route, method and status."""
    # Only paths that are routes become labels: anything else would grow without bound.
    route = getattr(scope.get("route"), "path", "other")
    method = scope["method"] if scope["method"] in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS") else "other"
    counter("taskfleet_api_requests_total").labels(method, route, str(status)).inc()
    if not route.endswith(UNTIMED_SUFFIXES):
        histogram("taskfleet_api_request_seconds").labels(method, route).observe(seconds)


async def _send_internal_error(scope: Scope, send: Send) -> None:
    problem = Problem(kind=INTERNAL, detail="Something failed inside the service; its log says what.")
    text = msgspec.json.encode(problem.build_document(scope["path"]))
    headers = [
        (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
        (b"content-length", str(len(text)).encode()),
        *SECURITY_HEADERS,
    ]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": text})


class ProxyHeaders:
    """Takes client, scheme and host from X-Forwarded-* when the peer is a trusted proxy; nobody else is believed."""

    def __init__(self, app: ASGIApp, trusted: Sequence[str]) -> None:
        self._app = app
        self._any = "*" in trusted
        self._networks = [ipaddress.ip_network(text, strict=False) for text in trusted if text != "*"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and self._trusts(scope.get("client")):
            scope = self._rewrite(scope)
        await self._app(scope, receive, send)

    def _trusts(self, client: tuple[str, int] | None) -> bool:
        return client is not None and (self._any or self._contains(client[0]))

    def _contains(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def _rewrite(self, scope: Scope) -> Scope:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        changed = dict(scope)
        if (scheme := headers.get(b"x-forwarded-proto", "").strip().lower()) in ("http", "https"):
            changed["scheme"] = scheme
        # From the right: the first address that is no proxy of ours is the client.
        hops = [hop.strip() for hop in headers.get(b"x-forwarded-for", "").split(",") if hop.strip()]
        if hops:
            outside = [hop for hop in hops if not self._contains(hop)]
            changed["client"] = (outside[-1] if outside and not self._any else hops[0], 0)
        if host := headers.get(b"x-forwarded-host", "").split(",")[0].strip():
            kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
            changed["headers"] = [*kept, (b"host", host.encode("latin-1"))]
        return changed
