"""The two ways from a body to a submission say the same, and the precise one points at what is wrong."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskfleet_api.tasks.parsing import parse_fast, parse_precise, parse_precise_item
from taskfleet_core.errors import InvalidInputError, TaskfleetError

DEPTH = 8
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18, max_value=10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=12,
)
names = st.text(min_size=0, max_size=12)
numbers = st.integers(-2, 12) | st.floats(-1, 1e10) | st.just(10**30) | st.booleans() | st.text(max_size=3)

MANY = 4 * settings.default.max_examples  # two parsers of everything that the API accepts


def mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(good, good, good, anything)


bodies = st.fixed_dictionaries(
    {},
    optional={
        "queue": mostly(names.filter(bool)),
        "task": mostly(names.filter(bool)),
        "args": mostly(st.lists(anything, max_size=3)),
        "kwargs": mostly(st.dictionaries(st.text(max_size=5), anything, max_size=3)),
        "metadata": mostly(st.none() | st.dictionaries(st.text(max_size=5), anything, max_size=3)),
        "priority": numbers,
        "countdown_seconds": numbers,
        "ttl_seconds": numbers,
        "timeout_seconds": numbers,
        "eta": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01", 5, None]),
        "retry": mostly(
            st.fixed_dictionaries(
                {}, optional={"max_attempts": numbers, "backoff_seconds": numbers, "jitter": anything}
            )
        ),
        "other": anything,
    },
).map(lambda document: document | {name: document.get(name, "x") for name in ("queue", "task")})


def try_precise(body: bytes) -> Any:
    try:
        return parse_precise(body, DEPTH)
    except TaskfleetError as error:
        return error


@settings(max_examples=MANY)
@given(bodies, st.booleans())
@example({"queue": "q", "task": "t", "metadata": {"n": 10**40, "f": 1e22, "s": "\u00e9", "b": True}}, True)
@example({"queue": "q", "task": "t", "metadata": {"f": 100000000000000000000.0, "m": -0.0}}, False)
def test_the_fast_way_answers_only_what_the_precise_one_would(document: dict[str, Any], ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    fast = parse_fast(body, DEPTH)
    if fast is not None:
        assert fast == try_precise(body)


@settings(max_examples=MANY)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0daqtsk1e.-+ ', max_size=60).map(str.encode))
def test_no_bytes_break_either_way(text: bytes) -> None:
    for body in (text, b'{"queue":"q","task":"t","args":[' + text + b"]}"):
        fast = parse_fast(body, DEPTH)
        precise = try_precise(body)
        assert fast is None or fast == precise


def test_a_plain_body_takes_the_fast_way() -> None:
    fast = parse_fast(b'{"queue":"q","task":"t","args":[1],"retry":{"max_attempts":3},"metadata":{"a":1}}', DEPTH)
    assert fast is not None
    assert fast.labels == (("a", "1"),)
    assert fast.retry is not None
    assert fast.retry.max_attempts == 3


def test_arguments_pass_as_they_are_written() -> None:
    body = b'{"queue": "q", "task": "t", "args": [ 1.0, 1e2, 123456789012345678901234567890 ], "kwargs": {"a":1,"a":2}}'
    for submission in (parse_fast(body, DEPTH), parse_precise(body, DEPTH)):
        assert submission is not None
        assert submission.args_json == "[ 1.0, 1e2, 123456789012345678901234567890 ]"
        assert submission.kwargs_json == '{"a":1,"a":2}'


@pytest.mark.parametrize(
    ("members", "pointers"),
    [
        ({"queue": None}, ["#/queue"]),
        ({"queue": ""}, ["#/queue"]),
        ({"task": "a\x00b"}, ["#/task"]),
        ({"task": "x" * 256}, ["#/task"]),
        ({"args": [["a\x00"]]}, ["#/args/0/0"]),
        ({"kwargs": {"a": "\x00"}}, ["#/kwargs/a"]),
        ({"metadata": {"a\x00": 1}}, ["#/metadata"]),
        ({"args": {}}, ["#/args"]),
        ({"kwargs": []}, ["#/kwargs"]),
        ({"priority": 10}, ["#/priority"]),
        ({"priority": True}, ["#/priority"]),
        ({"priority": "1"}, ["#/priority"]),
        ({"priority": 10**400}, ["#/priority"]),
        ({"eta": 5}, ["#/eta"]),
        ({"eta": "2026-01-01T00:00:00"}, ["#/eta"]),
        ({"eta": "0001-01-01T00:00:00+10:00"}, ["#/eta"]),
        ({"eta": "2026-01-01T00:00:00Z", "countdown_seconds": 1}, ["#"]),
        ({"expires_at": "2026-01-01T00:00:00Z", "ttl_seconds": 1}, ["#"]),
        ({"countdown_seconds": -1}, ["#/countdown_seconds"]),
        ({"ttl_seconds": 0}, ["#/ttl_seconds"]),
        ({"timeout_seconds": 10**9}, ["#/timeout_seconds"]),
        ({"retry": {"max_attempts": 0}}, ["#/retry/max_attempts"]),
        ({"retry": {"max_attempts": 2, "jitter": 1, "x": 2}}, ["#/retry/jitter", "#/retry/x"]),
        ({"a/b~c": 1}, ["#/a~1b~0c"]),
        ({"idempotency_key": "k"}, ["#/idempotency_key"]),
    ],
)
def test_what_is_wrong_is_pointed_at(members: dict[str, Any], pointers: list[str]) -> None:
    body = json.dumps({"queue": "q", "task": "t"} | members).encode()
    assert parse_fast(body, DEPTH) is None
    with pytest.raises(InvalidInputError) as refused:
        parse_precise(body, DEPTH)
    assert sorted(error.pointer for error in refused.value.errors) == pointers


def test_a_time_without_its_zone_says_how_to_write_one() -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_precise(b'{"queue":"q","task":"t","eta":"2026-01-01T00:00:00"}', DEPTH)
    assert "end it with Z" in refused.value.errors[0].detail


def test_times_are_kept_in_utc() -> None:
    submission = parse_precise(b'{"queue":"q","task":"t","eta":"2026-01-01T02:00:00+02:00"}', DEPTH)
    assert submission.eta == datetime(2026, 1, 1, tzinfo=UTC)


def test_an_item_of_a_batch_may_have_its_own_key() -> None:
    item = parse_precise_item(b'{"queue":"q","task":"t","idempotency_key":"k"}', DEPTH, "#")
    assert item.idempotency_key == "k"
    assert item.body_hash is not None
