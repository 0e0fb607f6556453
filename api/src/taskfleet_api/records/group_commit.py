"""Group commit: submissions that arrive while a commit is under way share the next one. No timer, no added wait."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from taskfleet_api.records.model import NewTask, Outcome
from taskfleet_api.records.store import Records
from taskfleet_api.records.submitting import check_task
from taskfleet_api.telemetry import histogram
from taskfleet_core.errors import OverloadedError, TaskfleetError

__all__ = ["GroupCommit"]


@dataclass(slots=True, eq=False)
class _Waiting:
    tasks: Sequence[NewTask]
    done: asyncio.Future[list[Outcome]]


class GroupCommit:
    """Collects concurrent submissions into one transaction each round; bounded by `max_waiting` tasks."""

    def __init__(self, records: Records, *, max_batch: int = 1000, max_waiting: int = 20_000) -> None:
        self._records = records
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._queue: deque[_Waiting] = deque()
        self._waiting = 0
        self._runner: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Tasks submitted whose commit has not begun."""
        return self._waiting

    async def submit(self, tasks: Sequence[NewTask]) -> list[Outcome]:
        """Record the tasks, sharing a commit; raises OverloadedError when too many wait.

        A cancelled caller does not take its tasks back: they may be recorded.
        """
        if self._waiting and self._waiting + len(tasks) > self._max_waiting:
            raise OverloadedError("too many submissions wait for the database", retry_after_seconds=1)
        for task in tasks:
            check_task(task)
        waiting = _Waiting(tasks, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._waiting += len(tasks)
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="group-commit")
        return await waiting.done

    async def close(self) -> None:
        """Finish what was submitted."""
        if self._runner is not None:
            await self._runner

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._commit(self._take())
        finally:
            self._runner = None
            for waiting in self._queue:  # only when the loop is being torn down
                waiting.done.cancel()

    def _take(self) -> list[_Waiting]:
        """The next round: whole submissions, at least one, up to the batch size."""
        taken = [self._queue.popleft()]
        size = len(taken[0].tasks)
        while self._queue and size + len(self._queue[0].tasks) <= self._max_batch:
            taken.append(self._queue.popleft())
            size += len(taken[-1].tasks)
        self._waiting -= size
        return taken

    async def _commit(self, round_: list[_Waiting]) -> None:
        together = [task for waiting in round_ for task in waiting.tasks]
        begun = time.perf_counter()
        try:
            outcomes = await self._records.insert_tasks(together)
        except TaskfleetError as error:
            _fail(round_, error)
        except Exception as error:
            # The database refused the data of one submission: find it, the others are not to blame.
            if len(round_) == 1:
                _fail(round_, error)
                return
            for waiting in round_:
                await self._commit([waiting])
        else:
            histogram("taskfleet_api_commit_seconds").observe(time.perf_counter() - begun)
            histogram("taskfleet_api_commit_tasks").observe(len(together))
            _share(round_, outcomes)


def _fail(round_: list[_Waiting], error: Exception) -> None:
    for waiting in round_:
        if not waiting.done.done():
            waiting.done.set_exception(error)


def _share(round_: list[_Waiting], outcomes: list[Outcome]) -> None:
    start = 0
    for waiting in round_:
        end = start + len(waiting.tasks)
        if not waiting.done.done():
            waiting.done.set_result(outcomes[start:end])
        start = end
