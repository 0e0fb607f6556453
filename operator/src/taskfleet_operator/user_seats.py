"""As whom the workers of a TaskQueue log in: between what is observed of it and the keeper of broker users."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from taskfleet_core.addresses import is_amqp_url
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_operator.broker_users import build_user_name, find_user_of_pod, read_login, split_targets
from taskfleet_operator.indexing import QueueIndex
from taskfleet_operator.names import get_child_name
from taskfleet_operator.observed import Credentials, UserState
from taskfleet_operator.user_keeping import UserKeeper
from taskfleet_operator.watching import Watcher

__all__ = ["UserSeats"]


@dataclass(frozen=True)
class UserSeats:
    """Gives each TaskQueue its login. One that names its broker brings a login of its own, and is left alone."""

    keeper: UserKeeper
    secrets: Watcher
    pods: Watcher
    index: QueueIndex

    def seat(
        self, key: str, queue: TaskQueue, shared: Credentials | None, *, is_declared: bool
    ) -> tuple[Credentials | None, UserState | None]:
        """The credentials of the workers, None while there are none for them; and how far their user is, None where
        they shall have none. `is_declared`: the queues stand at the broker."""
        if shared is None or not self.keeper.is_on or queue.spec.broker or not is_amqp_url(shared.broker_url):
            return shared, None
        kept = read_login(self.secrets.get(queue.metadata.namespace, get_child_name(queue.name)))
        state = UserState(build_user_name(queue))
        login, notes = kept, tuple[str, ...]()
        index = self.index
        if index.find_older(key) is not None:
            self.keeper.drop(key)  # the queue is another's: rights to it are not for this one
        elif is_declared or (kept is not None and kept.user == state.name):
            serving = (entry for entry in index.iterate_valid() if index.find_older(entry.key) is None)
            neighbours = (entry.queue for entry in serving if entry.queue is not None)
            targets, notes = split_targets(queue, neighbours) if queue.spec.worker.sends_to else ((), ())
            login, state = self.keeper.follow(key, queue, shared.broker_url, kept, targets)
        if login is None:
            return None, state
        user = login.user if login.confined else None
        mine = replace(shared, broker_url=login.url, broker_user=user, confined=login.confined)
        return mine, replace(state, notes=notes)

    def find_senders(self, queue: TaskQueue | None) -> Iterator[str]:
        """The TaskQueues of its namespace that send to its queues: what they may do changes when it comes or goes."""
        if queue is None or not self.keeper.is_on:
            return
        names = set(queue.queue_weights)
        for entry in self.index.iterate_valid():
            other = entry.queue
            if other is None or other.metadata.namespace != queue.metadata.namespace:
                continue
            if names.intersection(other.spec.worker.sends_to):
                yield entry.key

    def list_in_use(self) -> set[str]:
        """Every broker user that a TaskQueue, a Secret or a pod mentions."""
        queues = {build_user_name(entry.queue) for entry in self.index.iterate_valid() if entry.queue is not None}
        logins = (read_login(secret) for secret in self.secrets.iterate())
        return queues | {login.user for login in logins if login is not None} | set(_users_of(self.pods.iterate()))


def _users_of(pods: Iterable[dict[str, Any]]) -> Iterator[str]:
    return (user for pod in pods if (user := find_user_of_pod(pod)) is not None)
