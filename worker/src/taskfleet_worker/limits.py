"""Soft time limits that come after the hard one.

billiard starts the hard limit's clock only once a soft limit has passed: a task with a soft limit of an hour and a hard
one of a minute would run for an hour. The hard limit may be shorter than the app's author knew, by
`worker.maxTaskSeconds` or by the submission's `timeout_seconds`, so a soft limit that cannot come first is left out.
"""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["choose_soft_limit", "leave_out_late_soft_limits"]


def choose_soft_limit(soft: float | None, hard: float | None) -> float | None:
    """The soft limit, unless the hard one ends the task before or with it. Pure."""
    return None if soft and hard and soft >= hard else soft


def leave_out_late_soft_limits(pool: Any) -> None:
    """Give the processes of a prefork pool no soft limit that keeps the hard one waiting; other pools have none."""
    processes: Any = getattr(pool, "_pool", None)
    if not hasattr(processes, "soft_timeout"):
        return
    run, default_soft, default_hard = pool.on_apply, processes.soft_timeout, processes.timeout
    # What the pool adds by itself, it would add again to a task whose soft limit is left out.
    processes.soft_timeout = None

    @functools.wraps(run)
    def on_apply(*args: Any, soft_timeout: float | None = None, timeout: float | None = None, **kwargs: Any) -> Any:
        hard = timeout or default_hard
        return run(*args, soft_timeout=choose_soft_limit(soft_timeout or default_soft, hard), timeout=timeout, **kwargs)

    pool.on_apply = on_apply
