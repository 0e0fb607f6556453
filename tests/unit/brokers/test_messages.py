"""The message of a task is the one that Celery itself would have sent."""

import json
from typing import Any

from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu.serialization import dumps, loads

from taskfleet_api.brokers import build_message

CELERY = Celery("reference", set_as_current=False, fixups=[])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
TEXT = st.text(min_size=1, max_size=40)


@given(
    task=TEXT,
    args=st.lists(JSON, max_size=4),
    kwargs=st.dictionaries(st.text(), JSON, max_size=4),
    timeout_seconds=st.none() | st.floats(min_value=0.1, max_value=1e6),
    expires=st.none() | st.just("2030-01-01T00:00:00+00:00"),
    ascii_only=st.booleans(),
    spaces=st.booleans(),
)
def test_message_equals_what_celery_makes(
    task: str,
    args: list[Any],
    kwargs: dict[str, Any],
    timeout_seconds: float | None,
    expires: str | None,
    ascii_only: bool,
    spaces: bool,
) -> None:
    separators = (", ", ": ") if spaces else (",", ":")
    args_json = json.dumps(args, ensure_ascii=ascii_only, separators=separators)
    kwargs_json = json.dumps(kwargs, ensure_ascii=ascii_only, separators=separators)
    message = build_message(
        task_id="0195d9a0-0000-7000-8000-000000000000",
        queue="q",
        task=task,
        args_json=args_json,
        kwargs_json=kwargs_json,
        timeout_seconds=timeout_seconds,
        expires=expires,
    )
    wanted = CELERY.amqp.as_task_v2(
        "0195d9a0-0000-7000-8000-000000000000",
        task,
        args=args,
        kwargs=kwargs,
        time_limit=timeout_seconds,
        expires=expires,
        argsrepr=args_json[:1024],
        kwargsrepr=kwargs_json[:1024],
        origin="taskfleet-api",
    )
    ours = {key: value for key, value in message.headers.items() if not key.startswith("taskfleet-")}
    assert ours == wanted.headers
    assert message.correlation_id == wanted.properties["correlation_id"]
    content_type, content_encoding, body = dumps(wanted.body, serializer="json")
    assert (message.content_type, message.content_encoding) == (content_type, content_encoding)
    assert json.loads(message.body) == json.loads(body)


def test_celery_reads_the_body() -> None:
    message = build_message(task_id="i", queue="q", task="t", args_json='["é", 1]', kwargs_json='{"k": [true, null]}')
    body = loads(message.body, message.content_type, message.content_encoding, accept={"application/json"})
    assert body == [["é", 1], {"k": [True, None]}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def test_headers_of_ours_are_there_only_when_they_say_something() -> None:
    plain = build_message(task_id="i", queue="q", task="t")
    assert {key: value for key, value in plain.headers.items() if key.startswith("taskfleet-")} == {
        "taskfleet-attempt": 1
    }
    full = build_message(
        task_id="i", queue="q", task="t", attempt=2, max_attempts=3, republished=True, traceparent="00-a-b-01"
    )
    assert full.headers["taskfleet-attempt"] == 2
    assert full.headers["taskfleet-max-attempts"] == 3
    assert full.headers["taskfleet-republished"] is True
    assert full.headers["traceparent"] == "00-a-b-01"


def test_messages_of_one_task_share_no_header() -> None:
    first = build_message(task_id="1", queue="q", task="t", args_json="[1]")
    build_message(task_id="2", queue="q", task="t", args_json="[2]", republished=True)
    assert (first.headers["id"], first.headers["argsrepr"]) == ("1", "[1]")
    assert "taskfleet-republished" not in first.headers
