"""Results of any kind become JSON that every reader accepts."""

import datetime
import decimal
import json
import uuid
from typing import Any

import pytest

from taskfleet_worker.encoding import encode_value


class Unprintable:
    """Raises wherever it is looked at."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def _nest(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param({"a": [1, 2.5, None, True]}, {"a": [1, 2.5, None, True]}, id="plain"),
        pytest.param(float("inf"), None, id="infinity"),
        pytest.param({"x": float("nan")}, {"x": None}, id="not a number"),
        pytest.param("a\ud800b", "a?b", id="lone surrogate"),
        pytest.param("\U0001f600", "\U0001f600", id="surrogate pair"),
        pytest.param("a\x00b", "a\x00b", id="nul is escaped"),
        pytest.param({1: 2, None: 3}, {"1": 2, "null": 3}, id="keys"),
        pytest.param({(1, 2): 3}, {"(1, 2)": 3}, id="keys of a foreign type"),
        pytest.param(datetime.date(2024, 1, 2), "2024-01-02", id="date"),
        pytest.param(datetime.timedelta(seconds=1.5), 1.5, id="duration"),
        pytest.param(decimal.Decimal("1.10"), "1.10", id="decimal"),
        pytest.param(uuid.UUID(int=1), str(uuid.UUID(int=1)), id="uuid"),
        pytest.param(b"ab", "YWI=", id="bytes"),
        pytest.param({"s": {1}}, {"s": [1]}, id="set"),
        pytest.param(2**200, 2**200, id="huge integer"),
        pytest.param(Unprintable(), "<Unprintable>", id="raises"),
        pytest.param([Unprintable(), 1], ["<Unprintable>", 1], id="raises inside"),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    text = encode_value(value)
    assert json.loads(text, parse_constant=pytest.fail) == expected
    text.encode("ascii")


def test_depth_and_cycles_end() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (_nest(100_000), cycle):
        text = encode_value(value)
        assert "<list>" in text
        json.loads(text)
