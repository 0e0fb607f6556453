"""Injected into an unmodified Celery app: loader, result backend and boot steps. Imports nothing of ours."""

from __future__ import annotations

import importlib.util
import os
import sys

VENDOR_FOLDER = "vendor"
SHIM_FOLDER = "vendor-before-3.11.3"


def _append_vendored(archive: str) -> None:
    """What the image lacks comes from the archive: last in the search path, so that it shadows nothing of the image."""
    if not os.path.isfile(archive):
        return  # installed as a package, and with it what it needs
    folders = [VENDOR_FOLDER]
    if sys.version_info < (3, 11, 3) and importlib.util.find_spec("async_timeout") is None:
        folders.append(SHIM_FOLDER)
    for folder in (f"{archive}/{name}" for name in folders):
        if folder not in sys.path:
            sys.path.append(folder)


_append_vendored(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
