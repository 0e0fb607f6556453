"""Which soft time limit a task gets."""

from typing import Any

import pytest

from taskfleet_worker.limits import choose_soft_limit, leave_out_late_soft_limits


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [(5, 10, 5), (10, 10, None), (20, 10, None), (5, None, 5), (None, 10, None), (None, None, None)],
)
def test_a_soft_limit_comes_before_the_hard_one_or_not_at_all(
    soft: float | None, hard: float | None, expected: float | None
) -> None:
    assert choose_soft_limit(soft, hard) == expected


class Processes:
    """What billiard's pool adds to each task that says nothing."""

    soft_timeout: float | None = 300
    timeout: float | None = 60


class Pool:
    """A prefork pool that notes the limits of what it is given."""

    def __init__(self) -> None:
        self._pool = Processes()
        self.given: list[tuple[Any, Any]] = []
        self.on_apply = self.note

    def note(self, soft_timeout: float | None = None, timeout: float | None = None) -> None:
        self.given.append((soft_timeout, timeout))


def test_the_pools_own_limits_count_too() -> None:
    pool = Pool()
    leave_out_late_soft_limits(pool)
    pool.on_apply()
    pool.on_apply(soft_timeout=30)
    pool.on_apply(soft_timeout=30, timeout=20)
    pool.on_apply(timeout=900)
    assert pool.given == [(None, None), (30, None), (None, 20), (300, 900)]
    assert pool._pool.soft_timeout is None, "else it would come back"


def test_other_pools_are_left_alone() -> None:
    pool = type("ThreadPool", (), {"on_apply": print})()
    leave_out_late_soft_limits(pool)
    assert pool.on_apply is print
