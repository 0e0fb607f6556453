"""Reference 001's names in `taskfleet up --references`."""

from pathlib import Path

import pytest

from taskfleet.local.options import UpOptions
from taskfleet.local.references import apply_reference_settings, load_option_queues
from taskfleet_core.errors import InvalidInputError

EXAMPLE = Path(__file__).parents[3] / "examples" / "001-delay" / "taskqueue.yaml"
NAMES = ("RABBITMQ_HOST", "RABBITMQ_DEFAULT_USER", "RABBITMQ_DEFAULT_PASS", "PORT_AMQP", "PORT_WEB")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "worker_concurrency", "TASK_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


def test_the_host_of_rabbitmq_stands_in_for_the_broker_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_HOST", "127.0.0.1")
    monkeypatch.setenv("PORT_AMQP", "5673")
    options = apply_reference_settings(UpOptions(references=True))
    assert options.broker_url == "amqp://guest:guest@127.0.0.1:5673//"
    assert options.broker_management_url == "http://guest:guest@127.0.0.1:15672"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(UpOptions(), id="references are off"),
        pytest.param(UpOptions(references=True, broker_url="redis://127.0.0.1:1/0"), id="an option says otherwise"),
    ],
)
def test_the_host_of_rabbitmq_is_left_alone(monkeypatch: pytest.MonkeyPatch, options: UpOptions) -> None:
    monkeypatch.setenv("RABBITMQ_HOST", "127.0.0.1")
    assert apply_reference_settings(options) == options


@pytest.mark.parametrize(("references", "expected"), [(True, 3), (False, 1)])
def test_worker_concurrency_beats_the_file(monkeypatch: pytest.MonkeyPatch, references: bool, expected: int) -> None:
    monkeypatch.setenv("worker_concurrency", "3")
    (loaded,) = load_option_queues(UpOptions(references=references, files=(EXAMPLE,)))
    assert loaded.queue.spec.worker.concurrency == expected


def test_without_the_name_the_file_decides() -> None:
    (loaded,) = load_option_queues(UpOptions(references=True, files=(EXAMPLE,)))
    assert loaded.queue.spec.worker.concurrency == 1


def test_a_wrong_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT_AMQP", "many")
    with pytest.raises(InvalidInputError, match="PORT_AMQP"):
        apply_reference_settings(UpOptions(references=True))
