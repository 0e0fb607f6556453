"""What keeps the copies of TaskQueues right where kopf does not: a CRD that comes later, deletions nobody saw."""

import asyncio
import threading
from types import SimpleNamespace

import kopf
import pytest
from kopf._core.actions.invocation import invoke
from tests.support.waiting import eventually

from taskfleet_core.errors import NotFoundError, UnavailableError
from taskfleet_operator import handlers
from taskfleet_operator.handlers import build_registry, sweep_deleted, wait_for_crd


class ScriptedKube:
    """Answers each list of metadata with the next of `answers`, and the last one for ever."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), 0

    async def list_metadata(self, kind, namespace):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [{"uid": uid} for uid in answer]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(handlers, "CRD_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(handlers, "SWEEP_SECONDS", 0.01)


async def test_operator_waits_for_its_crd():
    kube = ScriptedKube(NotFoundError("404"), UnavailableError("no answer"), [])
    await asyncio.wait_for(wait_for_crd(kube, None), 5)
    assert kube.asked == 3


class Known:
    """Remembers TaskQueues by key, as (uid)."""

    def __init__(self, **uids):
        self.queues = {f"n/{name}": {"metadata": {"uid": uid}} for name, uid in uids.items()}

    def forget(self, key):
        del self.queues[key]
        return [f"{key}-rival"]


async def sweep(kube, known, until):
    enqueued = []
    task = asyncio.create_task(sweep_deleted(kube, None, known, enqueued.append))
    await eventually(lambda: until() or task.done())
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    return SimpleNamespace(enqueued=enqueued, error=outcome)


async def test_deletion_that_nobody_saw_is_found_and_rivals_take_over():
    known = Known(kept="u1", gone="u2", remade="u3")
    kube = ScriptedKube(UnavailableError("no answer"), ["u1", "u9"])
    known.queues["n/remade"] = {"metadata": {"uid": "u9"}}
    result = await sweep(kube, known, lambda: kube.asked > 3)
    assert set(known.queues) == {"n/kept", "n/remade"}
    assert result.enqueued == ["n/gone-rival"]


async def test_crd_that_goes_ends_the_process():
    known = Known(kept="u1")
    result = await sweep(ScriptedKube(["u1"], NotFoundError("404")), known, lambda: False)
    assert isinstance(result.error, NotFoundError)
    assert set(known.queues) == {"n/kept"}


async def test_events_are_taken_in_the_thread_of_the_loop():
    """Where kopf runs a handler is its own choice; from another thread a wake-up of the work queue may be lost."""
    threads = []
    reconciler = SimpleNamespace(remember=lambda key, raw: True, forget=lambda key: [f"{key}-rival"])
    registry = build_registry(reconciler, lambda key: threads.append((key, threading.current_thread())))
    (handler,) = registry._watching.get_all_handlers()
    body = kopf.Body({"metadata": {"namespace": "n", "name": "a"}})
    for kind in ("ADDED", "DELETED"):
        await invoke(handler.fn, settings=kopf.OperatorSettings(), kwargs={"type": kind, "body": body})
    assert threads == [("n/a", threading.current_thread()), ("n/a-rival", threading.current_thread())]
