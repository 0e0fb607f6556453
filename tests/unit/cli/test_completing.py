"""What TAB offers of the API's names: nothing where it is away, and never an error."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from taskfleet import completing
from taskfleet.models import Queue, TaskSignature

COMPLETERS = [
    completing.complete_queues,
    completing.complete_task_names,
    completing.complete_task_ids,
    completing.complete_schedules,
]


def line(**params: Any) -> Any:
    """The context of a command line with these words."""
    return SimpleNamespace(params=params)


@pytest.mark.parametrize("complete", COMPLETERS)
def test_an_api_that_is_away_offers_nothing_and_keeps_nobody(complete: Any) -> None:
    before = time.monotonic()
    assert complete(line(url="http://127.0.0.1:1", queue="q"), "") == []
    assert time.monotonic() - before < completing.ANSWER_SECONDS


@pytest.mark.parametrize("complete", COMPLETERS)
def test_a_key_that_cannot_be_sent_offers_nothing(complete: Any) -> None:
    assert complete(line(url="http://127.0.0.1:1", api_key="two words", queue="q"), "") == []


def test_queues_come_with_their_depth_and_only_those_that_begin_so(monkeypatch: pytest.MonkeyPatch) -> None:
    queues = [Queue(name="mail", ready=3), Queue(name="mail-slow", ready=None), Queue(name="thumbs", ready=0)]
    monkeypatch.setattr("taskfleet.client.Client.queues", lambda client: queues)
    assert completing.complete_queues(line(), "ma") == [("mail", "3 waiting"), ("mail-slow", "depth unknown")]


def test_tasks_are_those_of_the_queue_on_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"mail": [TaskSignature(name="mail.send", parameters={"properties": {"to": {}, "text": {}}})]}
    monkeypatch.setattr("taskfleet.client.Client.queue_tasks", lambda client, queue: known[queue])
    assert completing.complete_task_names(line(queue="mail"), "") == [("mail.send", "to text")]
    assert completing.complete_task_names(line(), "") == []


def test_ids_are_of_the_newest_tasks_that_are_not_on_the_line_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [SimpleNamespace(id=name, state="running", task="mail.send") for name in ("a1", "a2", "b1")]
    monkeypatch.setattr("taskfleet.client.Client.list", lambda client, limit: tasks)
    assert completing.complete_task_ids(line(ids=["a1"]), "a") == [("a2", "running mail.send")]
