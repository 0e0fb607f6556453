"""JSON as the caller's own text: depth, numbers and characters."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet_api.problems import MalformedBodyError
from taskfleet_api.tasks.json_text import is_too_deep, parse_members, parse_value
from taskfleet_core.errors import InvalidInputError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


def measure_depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(measure_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(measure_depth, value), default=0)
    return 0


@given(json_values, st.integers(min_value=1, max_value=6))
def test_depth_is_what_nesting_says(value: Any, limit: int) -> None:
    assert is_too_deep(json.dumps(value).encode(), limit) == (measure_depth(value) > limit)


@pytest.mark.parametrize(
    ("text", "deep"),
    [
        (b'["[[[[", "]]]]", "\\"[[[["]', False),
        (b"[[[[]]]]", True),
        (b"[{}, {}, {}, {}, []]", False),
        (b"[" * 100_000, True),
        (b'"' + b"[" * 100_000, True),
    ],
)
def test_brackets_in_strings_do_not_nest(text: bytes, deep: bool) -> None:
    assert is_too_deep(text, 3) is deep


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        pytest.param(b"9" * 5000, "4300 digits", id="an integer that Python cannot read back"),
        pytest.param(b"[-" + b"9" * 5000 + b"]", "4300 digits", id="a negative one inside"),
        pytest.param(b"1e999", "64-bit", id="a number that would be infinite"),
        pytest.param(b'"\\ud800"', "surrogate", id="half a surrogate pair"),
        pytest.param(b'{"\\udc00x": 1}', "surrogate", id="half a surrogate pair in a key"),
    ],
)
def test_what_a_worker_could_not_read_is_refused(text: bytes, detail: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_value(text, "#/args")
    assert refused.value.errors[0].pointer == "#/args"
    assert detail in refused.value.errors[0].detail


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        (b'"\\u0000"', "#/args"),
        (b'[1, {"a": ["b", "c\\u0000"]}]', "#/args/1/a/1"),
        (b'{"a/b": {"~": "\\u0000"}}', "#/args/a~1b/~0"),
        (b'{"a": {"\\u0000b": 1}}', "#/args/a"),
        (b'{"a": "\\u0000", "a": 1}', "#/args/a"),
        (b'"\\\\\\u0000"', "#/args"),
    ],
)
def test_a_nul_character_is_refused_and_pointed_at(text: bytes, pointer: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_value(text, "#/args")
    assert refused.value.errors[0].pointer == pointer
    assert "NUL" in refused.value.errors[0].detail


def test_a_backslash_before_u0000_is_no_nul_character() -> None:
    assert parse_value(b'["\\\\u0000"]', "#/args") == ["\\u0000"]


@pytest.mark.parametrize("text", [b"NaN", b"[Infinity]", b"-Infinity", b"{", b"", b"'a'", b"\xff", b'"\x00"', b"01"])
def test_what_is_not_json_is_malformed(text: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        parse_value(text, "#")


def test_large_integers_are_kept() -> None:
    assert parse_value(b"1" + b"0" * 4000, "#") == 10**4000


def test_members_stay_as_they_were_written() -> None:
    members = parse_members(b'{"a": [1.0, 1e2,  "\\u00e9"], "b": 1, "b": 2}', 5)
    assert members == {"a": b'[1.0, 1e2,  "\\u00e9"]', "b": b"2"}


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"x"'])
def test_only_objects_have_members(body: bytes) -> None:
    with pytest.raises(InvalidInputError, match="not valid"):
        parse_members(body, 5)
