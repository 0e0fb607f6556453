"""Who calls: `auth_mode: apiKey` asks every request but those of probes, metrics and the API's own pages for a key.

Deny by default: a route that is added later is closed until its path is listed here. A key is never logged.
"""

import hashlib
import hmac
from collections.abc import Mapping

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from taskfleet_api import documentation
from taskfleet_api.problems import ERROR_TABLE, Problem, ProblemResponse
from taskfleet_api.tasks.model import ANONYMOUS
from taskfleet_core.errors import AuthenticationError

__all__ = ["ADMIN", "OPEN_PATHS", "ApiKeys", "Authentication", "get_principal"]

ADMIN = "admin"
OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics", "/openapi.json"}) | documentation.PATHS
PRINCIPAL = "taskfleet.principal"
BEARER = b"bearer "
CHALLENGE = 'Bearer realm="taskfleet"'


class ApiKeys:
    """Names the caller of a request by the key that it sends."""

    def __init__(self, admin_key: str) -> None:
        self._digest = _hash(admin_key.encode())

    def identify(self, headers: Mapping[bytes, bytes]) -> str | None:
        """The principal; None without the right key. `X-API-Key` is for those whose proxy uses `Authorization`."""
        key = headers.get(b"x-api-key")
        if key is None:
            key = _read_bearer(headers.get(b"authorization", b""))
        if key is None or not hmac.compare_digest(_hash(key), self._digest):
            return None
        return ADMIN


def _read_bearer(value: bytes) -> bytes | None:
    return value[len(BEARER) :].strip() if value[: len(BEARER)].lower() == BEARER else None


def _hash(key: bytes) -> bytes:
    """Of one length for all keys: comparing them then tells nothing, not even how long the right one is."""
    return hashlib.sha256(key).digest()


class Authentication:
    """Lets requests through that carry the key or need none; the others get a 401 problem document."""

    def __init__(self, app: ASGIApp, keys: ApiKeys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and not _is_open(scope):
            headers = dict(scope["headers"])
            principal = self._keys.identify(headers)
            if principal is None:
                await _refuse(headers)(scope, receive, send)
                return
            scope[PRINCIPAL] = principal
        await self._app(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    return scope["path"].removeprefix(scope.get("root_path", "")) in OPEN_PATHS


def _refuse(headers: Mapping[bytes, bytes]) -> ASGIApp:
    detail, challenge = "Send the key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.", CHALLENGE
    if b"x-api-key" in headers or b"authorization" in headers:
        detail, challenge = f"The key is not valid. {detail}", f'{CHALLENGE}, error="invalid_token"'
    kind = ERROR_TABLE[AuthenticationError]
    problem = Problem(kind=kind, detail=detail, headers={"WWW-Authenticate": challenge})

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await ProblemResponse(problem, scope["path"])(scope, receive, send)

    return refuse


def get_principal(request: Request) -> str:
    """Who made the request: what idempotency keys belong to."""
    principal: str = request.scope.get(PRINCIPAL, ANONYMOUS)
    return principal
