"""Who lives is told by counts that move: nobody's clock is read."""

import pytest

from taskfleet_api.background.replicas import count_still, get_process


@pytest.mark.parametrize(
    ("before", "counts", "expected"),
    [
        pytest.param({}, {"a": 7}, {"a": (7, 0)}, id="the first look suspects nobody"),
        pytest.param({"a": (7, 2)}, {"a": 8}, {"a": (8, 0)}, id="a count that moves lives"),
        pytest.param({"a": (7, 2)}, {"a": 7}, {"a": (7, 3)}, id="a count that stands is counted"),
        pytest.param({"a": (7, 2)}, {"a": 1}, {"a": (1, 0)}, id="a count that begins again lives"),
        pytest.param({"a": (7, 2)}, {}, {"a": (None, 0)}, id="a count that vanishes gets its looks"),
        pytest.param({"a": (None, 2)}, {}, {"a": (None, 3)}, id="a count that is never there is counted"),
        pytest.param({"a": (None, 9)}, {"a": 1}, {"a": (1, 0)}, id="a count that appears lives"),
    ],
)
def test_looks(
    before: dict[str, tuple[int | None, int]], counts: dict[str, int], expected: dict[str, tuple[int | None, int]]
) -> None:
    assert count_still(before, counts, {"a"}) == expected


def test_what_nobody_asks_about_is_not_remembered() -> None:
    assert count_still({"a": (1, 0), "b": (1, 0)}, {"b": 2}, {"b"}) == {"b": (2, 0)}


@pytest.mark.parametrize(
    ("consumer", "process"), [("host-1-ab/0", "host-1-ab"), ("host-1-ab/takeover", "host-1-ab"), ("host-1-ab-0", None)]
)
def test_consumers_of_earlier_releases_name_no_process(consumer: str, process: str | None) -> None:
    assert get_process(consumer) == process
