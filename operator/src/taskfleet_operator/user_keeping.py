"""Keeps a broker user for each TaskQueue, off the way of reconciles: new and changed ones at once, all of them each
minute; and removes those that no TaskQueue, Secret or pod names any more.

Workers get a login only when the user stands at the broker. Until then they keep the one that they have; without one,
they do not start: the login that all share is never handed out in its place.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import structlog

from taskfleet_core.addresses import replace_login
from taskfleet_core.amqp import LoginRefusedError
from taskfleet_core.backoff import decide_backoff_seconds
from taskfleet_core.errors import TaskfleetError
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_core.topology import QueueUser, QueueUsers
from taskfleet_core.waiting import wait_for_event
from taskfleet_operator.broker_users import CAN_DELAY, WAITS, Login, build_user_name
from taskfleet_operator.observed import UserState

__all__ = ["UserKeeper"]

DRIFT_SECONDS = 60.0
GATHER_SECONDS = 0.05  # TaskQueues that are applied together are served together
COLLECT_SECONDS = 5.0  # between two looks whether workers that had another user are gone
FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 1.0, 30.0
PASSWORD_BYTES = 32

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Wanted:
    user: QueueUser
    state: UserState


class UserKeeper:
    """`on_change` hears of each TaskQueue (its key) whose user is in another state than before."""

    def __init__(
        self,
        users: QueueUsers | None,
        *,
        get_tag: Callable[[], str | None],
        list_in_use: Callable[[], Collection[str]],
        on_change: Callable[[str], None],
        drift_seconds: float = DRIFT_SECONDS,
    ) -> None:
        """Without `users` nobody has a user of its own. `get_tag` marks the users of this operator; `list_in_use`
        names the users that TaskQueues, Secrets and pods mention."""
        self._users, self._get_tag, self._list_in_use, self._on_change = users, get_tag, list_in_use, on_change
        self._drift_seconds = drift_seconds
        self._wanted: dict[str, _Wanted] = {}
        self._due: set[str] = set()
        self._delays: bool | None = None  # whether the users may delay, once one of them was made
        self._woken = asyncio.Event()
        self._failures = 0
        self._checked_at = float("-inf")
        self._has_leavers = False  # users of ours without a TaskQueue, still in use

    @property
    def is_on(self) -> bool:
        """Whether TaskQueues at the default broker have users of their own."""
        return self._users is not None

    def follow(
        self, key: str, queue: TaskQueue, url: str, kept: Login | None, sends_to: tuple[str, ...]
    ) -> tuple[Login | None, UserState]:
        """Want the user of a TaskQueue whose queues stand at the broker; returns as whom its workers log in from now
        on. `url` is the broker as workers reach it, `kept` what their Secret has."""
        name = build_user_name(queue)
        before = self._wanted.get(key)
        if kept is not None and kept.user == name:
            password = kept.password
        elif before is not None and before.user.name == name:
            password = before.user.password
        else:
            password = secrets.token_urlsafe(PASSWORD_BYTES)
        user = QueueUser(name, password, tuple(queue.queue_weights), sends_to)
        if before is None or before.user != user:
            state = before.state if before is not None and before.state.name == name else UserState(name)
            self._wanted[key] = _Wanted(user, state)
            self._due.add(key)
            self._wake()
        state = self._wanted[key].state
        own = kept is not None and kept.user == name
        if not own and not (state.is_ready and self._delays is not None):
            return kept, state
        confined = kept.confined if kept is not None and own else None
        if self._delays is not None:
            confined = CAN_DELAY if self._delays else WAITS
        return Login(replace_login(url, name, password), name, password, confined), state

    def drop(self, key: str) -> None:
        """The TaskQueue is gone. Its user goes when the last of its workers has."""
        if self._wanted.pop(key, None) is not None:
            self._due.discard(key)
            self._has_leavers = True
            self._wake()

    def report_return(self) -> None:
        """The broker answers again: it may have lost everything."""
        self._due.update(self._wanted)
        self._failures = 0
        self._woken.set()

    @property
    def names(self) -> set[str]:
        """The users that are wanted."""
        return {wanted.user.name for wanted in self._wanted.values()}

    async def run(self) -> None:
        """Work until cancelled."""
        if self._users is None:
            await asyncio.Event().wait()
            return
        try:
            while True:
                await self._wait()
                self._woken.clear()
                await asyncio.sleep(GATHER_SECONDS)
                await self._work(self._users)
        finally:
            await self._users.close()

    def _wake(self) -> None:
        if not self._failures:  # a broker that is down is not tried more often because there is more to do
            self._woken.set()

    async def _wait(self) -> None:
        seconds = max(0.0, self._checked_at + self._drift_seconds - time.monotonic())
        if self._failures:
            seconds = decide_backoff_seconds(
                self._failures, FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, random.random()
            )
        elif self._has_leavers:
            seconds = min(seconds, COLLECT_SECONDS)
        await wait_for_event(self._woken, seconds)

    async def _work(self, users: QueueUsers) -> None:
        now = time.monotonic()
        is_full = bool(self._failures) or now - self._checked_at >= self._drift_seconds
        due = set(self._wanted) if is_full else self._due & self._wanted.keys()
        asked = {key: self._wanted[key].user for key in due}
        tag = self._get_tag()
        try:
            if tag is None:
                raise TaskfleetError("the operator's Lease has no uid yet")
            if asked:
                mended = await users.ensure(list(asked.values()), tag)
                if mended:
                    _log.info("broker_users.made", users=mended)
                self._delays = users.delays
            await self._collect(users, tag)
        except Exception as error:  # what nobody thought of is an error of this broker too, and tried again
            if not isinstance(error, TaskfleetError):
                _log.exception("broker_users.failed")
            self._fail(error)
            return
        self._failures = 0
        if is_full:
            self._checked_at = now
        for key, user in asked.items():
            self._settle(key, user)

    async def _collect(self, users: QueueUsers, tag: str) -> None:
        gone, left = await users.collect(self.names | set(self._list_in_use()), tag)
        if gone:
            _log.info("broker_users.removed", users=gone)
        self._has_leavers = bool(set(left) - self.names)

    def _settle(self, key: str, user: QueueUser) -> None:
        wanted = self._wanted.get(key)
        if wanted is not None and wanted.user == user:  # else changed meanwhile: its turn comes again
            self._due.discard(key)
            self._put(key, UserState(user.name, is_ready=True))

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        text = str(error) or type(error).__name__
        if self._failures == 1 or self._failures % 10 == 0:
            _log.warning("broker_users.unavailable", error=text, users=len(self._wanted), failures=self._failures)
        refused = isinstance(error, LoginRefusedError)
        for key, wanted in list(self._wanted.items()):
            self._put(key, replace(wanted.state, error=text, is_refused=refused))

    def _put(self, key: str, state: UserState) -> None:
        wanted = self._wanted[key]
        if wanted.state != state:
            self._wanted[key] = _Wanted(wanted.user, state)
            self._on_change(key)
