"""What stands in tasks is other people's text: on a terminal it gives no orders."""

import json
from collections.abc import Callable

import pytest

from taskfleet import output
from taskfleet.main import tell
from taskfleet.models import Event, Task

# Clears the screen, colours, fills the clipboard, overwrites the line; the same in C1; turns the direction of text.
ORDERS = "\x1b[2J\x1b[31m\x1b]52;c;cm0=\x07\x08\r\x9b2J\u202e"
TASK = Task.model_validate(
    {
        "id": "01",
        "queue": "q",
        "task": f"evil{ORDERS}",
        "state": "failed",
        "attempt": 1,
        "retries": 0,
        "args": [ORDERS],
        "created_at": "2026-01-01T00:00:00Z",
        "worker": ORDERS,
        "error": {"type": f"E{ORDERS}", "message": ORDERS, "traceback": f"Traceback\n\t{ORDERS} line"},
    }
)
EVENT = Event.model_validate(
    {
        "id": "01",
        "kind": "state",
        "queue": "q",
        "task": "t",
        "state": "failed",
        "attempt": 1,
        "retries": 0,
        "at": 1.0,
        "worker": ORDERS,
        "error": {"type": "E", "message": ORDERS},
    }
)


@pytest.mark.parametrize(
    "show",
    [
        pytest.param(lambda: output.print_task(TASK), id="task"),
        pytest.param(lambda: output.print_rows(["name"], [[TASK.task]], empty=""), id="table"),
        pytest.param(lambda: output.print_json(TASK), id="json"),
        pytest.param(lambda: output.console().print(output.describe_event(EVENT)), id="event"),
        pytest.param(lambda: tell(ORDERS), id="message"),
    ],
)
def test_nothing_that_a_task_says_reaches_the_terminal_as_an_order(
    show: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    show()
    shown = "".join(capsys.readouterr())
    assert not set(ORDERS) & set(shown) - set("[]2J31m;52c0=")
    assert "\\u001b" in shown


def test_json_says_the_same_to_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"text": f"{ORDERS}é\n"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"text": f"{ORDERS}é\n"}
    assert "é" in shown


def test_line_breaks_of_a_traceback_stay(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_task(TASK)
    assert "Traceback\n" in capsys.readouterr().out
