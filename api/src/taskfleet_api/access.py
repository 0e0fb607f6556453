"""What a caller may do: the scopes of its key, and the queues that it sees.

The caller of the request in hand stands in a context variable, so that every service below the routers asks the same
question. Outside of requests (background loops, local mode without keys) it is ANYBODY.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from taskfleet_api.tasks.model import ANONYMOUS
from taskfleet_core.scopes import KeyScope

__all__ = [
    "ANYBODY",
    "Caller",
    "KeyScope",
    "acting_as",
    "find_scope",
    "find_verb",
    "get_caller",
    "is_still_allowed",
]

API = "/api/v1/"
COLLECTIONS = frozenset({f"{API}tasks", f"{API}tasks:stream", f"{API}queues", f"{API}schedules"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `queues` are names, or beginnings of names that end in `*`; None means all queues."""

    principal: str
    scopes: frozenset[KeyScope]
    queues: tuple[str, ...] | None = None

    @property
    def sees_all(self) -> bool:
        """Whether every queue exists for the caller, also one that is made later."""
        return self.queues is None

    def may(self, scope: KeyScope) -> bool:
        """Whether the key has the scope, on the queues that it sees."""
        return scope in self.scopes or KeyScope.ADMIN in self.scopes

    def sees(self, queue: str) -> bool:
        """Whether the queue, its tasks and its schedules exist for the caller."""
        if self.queues is None:
            return True
        return any(queue.startswith(item[:-1]) if item.endswith("*") else queue == item for item in self.queues)

    async def prepare(self, queues: Sequence[str]) -> None:
        """Find out what has to be asked for before `sees` can tell of these queues."""

    async def may_see(self, queue: str) -> bool:
        """Whether the queue exists for the caller, asked for where that is needed."""
        await self.prepare((queue,))
        return self.sees(queue)

    def select(self, queues: Sequence[str]) -> Sequence[str]:
        """Those of the queues that the caller sees."""
        return queues if self.sees_all else [queue for queue in queues if self.sees(queue)]


ANYBODY = Caller(ANONYMOUS, frozenset({KeyScope.ADMIN}))
_caller: ContextVar[Caller] = ContextVar("taskfleet_caller", default=ANYBODY)
_check: ContextVar[Callable[[], Awaitable[bool]] | None] = ContextVar("taskfleet_check", default=None)


def get_caller() -> Caller:
    """The caller of the request in hand."""
    return _caller.get()


async def is_still_allowed() -> bool:
    """Whether the request in hand would be let in now, too: for answers that take long."""
    check = _check.get()
    return check is None or await check()


@contextmanager
def acting_as(caller: Caller, check: Callable[[], Awaitable[bool]] | None = None) -> Iterator[None]:
    """Do what follows as this caller; `check` says whether the caller would still be let in."""
    caller_before, check_before = _caller.set(caller), _check.set(check)
    try:
        yield
    finally:
        _caller.reset(caller_before)
        _check.reset(check_before)


def find_scope(method: str, path: str) -> KeyScope:
    """The scope that a request needs. What nobody thought of needs ADMIN."""
    if not path.startswith(API):
        return _find_reference_scope(method)
    resource = path[len(API) :].split("/")[0].split(":")[0]
    if resource in {"tasks", "queues", "schedules"} and method in {"GET", "HEAD"}:
        return KeyScope.READ
    if resource == "tasks" and method == "DELETE":
        return KeyScope.CANCEL
    if (resource == "tasks" and method == "POST") or resource == "schedules":
        return KeyScope.SUBMIT
    return KeyScope.ADMIN


def _find_reference_scope(method: str) -> KeyScope:
    """The contracts of the older projects: they know no queues, so their callers must see all."""
    return {"GET": KeyScope.READ, "HEAD": KeyScope.READ, "POST": KeyScope.SUBMIT}.get(method, KeyScope.ADMIN)


def find_verb(method: str, path: str) -> str:
    """The same as a verb of Kubernetes, on the resource `taskqueues/tasks`."""
    if method in {"GET", "HEAD"}:
        return "list" if path in COLLECTIONS else "get"
    return {KeyScope.SUBMIT: "create", KeyScope.CANCEL: "delete"}.get(find_scope(method, path), "update")
