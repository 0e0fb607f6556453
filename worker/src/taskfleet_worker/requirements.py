"""What an image must have. Importing this looks, before anything else is imported: what is missing is said in words,
with the fix, where Kubernetes keeps it."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from typing import NoReturn

__all__ = ["EX_CONFIG", "find_problem", "refuse"]

EX_CONFIG = 78
MIN_CELERY = (5, 5)
TERMINATION_LOG = "/dev/termination-log"  # becomes part of the pod's status


def refuse(why: str, fix: str) -> NoReturn:
    """End the process: this app cannot be run here."""
    text = f"taskfleet: this app cannot run as a Taskfleet worker: {why}; {fix}\n"
    sys.stderr.write(text)
    sys.stderr.flush()
    if os.path.exists(TERMINATION_LOG):
        with contextlib.suppress(OSError), open(TERMINATION_LOG, "w") as log:
            log.write(text)
    raise SystemExit(EX_CONFIG)


def find_problem(celery_version: str, redis_error: str | None) -> tuple[str, str] | None:
    """What is wrong and the fix, or None. Pure."""
    parts = [int(part) if part.isdigit() else 0 for part in celery_version.split(".")[:2]]
    if tuple(parts) < MIN_CELERY:
        return f"the image has Celery {celery_version}", "install Celery 5.5 or newer in it"
    if redis_error is not None:
        python = platform.python_version()
        return (
            f"the image has no redis-py, and the one that is brought along does not run on Python {python} "
            f"({redis_error})",
            "install redis in the image",
        )
    return None


def _check_requirements() -> None:
    """Refuse an image that lacks what is needed."""
    import celery

    redis_error = None
    try:
        import redis  # noqa: F401 # that it can be imported is what counts
    except Exception as error:  # a version for other Pythons fails in many ways
        redis_error = f"{type(error).__name__}: {error}"
    problem = find_problem(celery.__version__, redis_error)
    if problem is not None:
        refuse(*problem)


_check_requirements()
