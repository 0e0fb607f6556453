"""The watcher announces long runs once, and only those."""

import threading
from types import SimpleNamespace

import pytest
from tests.support.waiting import eventually_sync

from taskfleet_worker.events import Identity
from taskfleet_worker.reporting import Reporter
from taskfleet_worker.runs import Run, Watcher


def _run(name: str, due: float = 0.05) -> Run:
    return Run(SimpleNamespace(), SimpleNamespace(), Identity(id=name, queue="q", task="t"), due)


def test_long_runs_are_announced_once_and_short_ones_never() -> None:
    announced: list[str] = []
    watcher = Watcher(lambda run: announced.append(run.identity.id))
    long, short = _run("long"), _run("short")
    watcher.add(long)
    watcher.add(short)
    short.ended = True
    eventually_sync(lambda: announced == ["long"])
    late = _run("late")
    watcher.add(late)
    eventually_sync(lambda: announced == ["long", "late"])


def test_many_threads_may_add_while_the_watcher_parks() -> None:
    announced: list[str] = []
    watcher = Watcher(lambda run: announced.append(run.identity.id))
    names = [f"{thread}-{number}" for thread in range(8) for number in range(50)]

    def add(thread: int) -> None:
        for number in range(50):
            watcher.add(_run(f"{thread}-{number}", due=0.0))

    threads = [threading.Thread(target=add, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually_sync(lambda: sorted(announced) == sorted(names))


def test_an_announcement_that_fails_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskfleet_worker.runs.REPEAT_SECONDS", 0.01)
    tries: list[str] = []

    def announce(run: Run) -> None:
        tries.append(run.identity.id)
        if len(tries) == 1:
            raise ConnectionError("away")

    Watcher(announce).add(_run("x", due=0.0))
    eventually_sync(lambda: len(tries) == 2, 5)


def test_acknowledgements_wait_for_the_report() -> None:
    reporter, tries, calls = Reporter(), [], []  # type: ignore[var-annotated]
    gate = threading.Event()

    def work() -> bool:
        tries.append(1)
        if not gate.is_set():
            raise ConnectionError("away")
        return True

    assert not reporter.defer("t", lambda: calls.append("early"))
    reporter.report(work, "t")
    assert reporter.defer("t", lambda: calls.append("t"))
    assert not reporter.defer("other", lambda: calls.append("other"))
    assert not reporter.is_idle
    gate.set()
    eventually_sync(lambda: calls == ["t"])
    assert reporter.is_idle
    assert not reporter.defer("t", lambda: calls.append("late"))
