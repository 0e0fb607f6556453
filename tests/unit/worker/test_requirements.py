"""An image that cannot run workers is refused with the fix."""

import pytest

from taskfleet_worker.requirements import find_problem


@pytest.mark.parametrize(
    ("celery", "redis_error", "expected"),
    [
        pytest.param("5.5.0", None, None, id="oldest that works"),
        pytest.param("5.7.0rc1", None, None, id="release candidate"),
        pytest.param("6.0", None, None, id="newer"),
        pytest.param("5.4.0", None, "Celery 5.4.0", id="too old"),
        pytest.param("4.4.7", "ImportError: x", "Celery 4.4.7", id="the first thing to mend is said"),
        pytest.param("5.5.3", "TypeError: x", "redis", id="no redis that runs"),
    ],
)
def test_what_is_missing_is_named(celery: str, redis_error: str | None, expected: str | None) -> None:
    problem = find_problem(celery, redis_error)
    assert (problem is None) == (expected is None)
    if problem is not None and expected is not None:
        assert expected in problem[0]
        assert problem[1].startswith("install")
