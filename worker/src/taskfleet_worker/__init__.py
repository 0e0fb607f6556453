"""Injected into an unmodified Celery app: loader, result backend and boot steps. Imports nothing of ours."""

from __future__ import annotations

import importlib.util
import os
import sys

VENDORED = "vendor.zip"
SHIMS = "vendor-before-3.11.3.zip"


def _append_vendored(archive: str) -> None:
    """What the image lacks comes from archives beside this one: last in the search path, so that they shadow nothing
    of the image."""
    if not os.path.isfile(archive):
        return  # installed as a package, and with it what it needs
    names = [VENDORED]
    if sys.version_info < (3, 11, 3) and importlib.util.find_spec("async_timeout") is None:
        names.append(SHIMS)
    for path in (os.path.join(os.path.dirname(archive), name) for name in names):
        if os.path.isfile(path) and path not in sys.path:
            sys.path.append(path)


_append_vendored(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
