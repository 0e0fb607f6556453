"""Who calls: `auth_mode: apiKey` asks every request but those of probes, metrics and the API's own pages for a key.

Deny by default: a route that is added later is closed until its path is listed here. A key is never logged.
"""

from collections.abc import Mapping
from functools import partial

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskfleet_api import documentation
from taskfleet_api.access import API, Caller, acting_as, find_scope, get_caller
from taskfleet_api.console.endpoints import is_console_path
from taskfleet_api.keys.ring import KeyRing
from taskfleet_api.problems import ERROR_TABLE, Problem, ProblemResponse, build_problem
from taskfleet_core.errors import AuthenticationError, PermissionDeniedError, UnavailableError

__all__ = ["OPEN_PATHS", "Authentication", "get_principal"]

OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics", "/openapi.json"}) | documentation.PATHS
CHALLENGE = 'Bearer realm="taskfleet"'
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Each submission leaves a record with its principal and time: a line beside it would say nothing more.
SUBMISSION_PATHS = frozenset({f"{API}tasks", f"{API}tasks:batch"})
audit = structlog.get_logger("taskfleet.audit")


class Authentication:
    """Lets requests through that carry a key with the right scope, or need none; others get a 401 or 403 problem."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in OPEN_PATHS or is_console_path(path):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            caller = None if _is_ambiguous(scope) else await self._keys.identify(headers, scope["method"], path)
        except UnavailableError as error:
            await ProblemResponse(build_problem(error), scope["path"])(scope, receive, send)
            return
        answer = _Audited(scope, path, caller, send)
        if caller is None:
            await _refuse(headers)(scope, receive, answer)
        elif (refusal := _check(caller, scope["method"], path)) is not None:
            await ProblemResponse(build_problem(refusal), scope["path"])(scope, receive, answer)
        else:
            with acting_as(caller, partial(self._would_let_in, headers, scope["method"], path)):
                await self._app(scope, receive, answer)

    async def _would_let_in(self, headers: Mapping[bytes, bytes], method: str, path: str) -> bool:
        """The same question once more: a key may have been revoked, or have ended, while it is being answered."""
        try:
            caller = await self._keys.identify(headers, method, path)
        except UnavailableError:
            return False
        return caller is not None and _check(caller, method, path) is None


class _Audited:
    """Passes an answer on and writes one line about each refusal and each change."""

    def __init__(self, scope: Scope, path: str, caller: Caller | None, send: Send) -> None:
        self._scope = scope
        self._path = path
        self._caller = caller
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._note(message["status"])
        await self._send(message)

    def _note(self, status: int) -> None:
        method = self._scope["method"]
        is_change = method not in SAFE_METHODS and self._path not in SUBMISSION_PATHS and status < 400
        if not is_change and status not in (401, 403):
            return
        client = self._scope.get("client")
        audit.info(
            "changed" if is_change else "refused",
            principal=self._caller.principal if self._caller else None,
            method=method,
            path=self._path,
            status=status,
            client=client[0] if client else None,
        )


def _check(caller: Caller, method: str, path: str) -> PermissionDeniedError | None:
    """Why the caller may not do this, or None. Which queue it is about, the services look at."""
    needed = find_scope(method, path)
    if not caller.may(needed):
        has = ", ".join(sorted(caller.scopes))
        return PermissionDeniedError(f"This needs a key with the scope {needed!s}; yours has: {has}.")
    is_reference, is_keys = not path.startswith(API), path.startswith(f"{API}keys")
    if not caller.sees_all and (is_reference or is_keys):
        return PermissionDeniedError("This needs a key for all queues; yours is limited to some.")
    return None


def _is_ambiguous(scope: Scope) -> bool:
    """Whether a header with a key is there twice: a proxy may have looked at the other one."""
    names = [name for name, _ in scope["headers"] if name in (b"authorization", b"x-api-key")]
    return len(names) > len(set(names))


def _refuse(headers: Mapping[bytes, bytes]) -> ASGIApp:
    detail, challenge = "Send the key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.", CHALLENGE
    if b"x-api-key" in headers or b"authorization" in headers:
        detail, challenge = f"The key is not valid. {detail}", f'{CHALLENGE}, error="invalid_token"'
    kind = ERROR_TABLE[AuthenticationError]
    problem = Problem(kind=kind, detail=detail, headers={"WWW-Authenticate": challenge})

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await ProblemResponse(problem, scope["path"])(scope, receive, send)

    return refuse


def get_principal(_request: Request) -> str:
    """Who made the request: what idempotency keys belong to."""
    return get_caller().principal
