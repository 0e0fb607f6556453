"""Injected as `click_repl` into workers. Celery's command line imports that package whatever the command, and with it
prompt_toolkit: a fifth of a worker's start, for a prompt that nobody opens there. The real one comes when it is used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "click_repl"


def register_repl(group: Any, name: str = "repl") -> None:
    """As in click_repl: add a command to a click group that opens a prompt for it."""
    import click

    @group.command(name=name)
    @click.pass_context
    def open_prompt(context: Any) -> None:
        """Start an interactive shell. All subcommands are available in it."""
        load().repl(context)


def load() -> Any:
    """The real package, which takes the place of this one. Raises ImportError when the image has none."""
    present = sys.modules.get(NAME)
    if present is not None and present.__dict__.get("load") is not load:
        return present
    own, path = str(Path(__file__).parent), list(sys.path)
    sys.modules.pop(NAME, None)
    sys.path[:] = [entry for entry in path if entry != own]
    try:
        return importlib.import_module(NAME)
    except ImportError:
        if present is not None:
            sys.modules[NAME] = present
        raise
    finally:
        sys.path[:] = path


class _Path:
    """Where modules of the package are; looked through only when one of them is imported."""

    def __iter__(self) -> Iterator[str]:
        return iter(load().__path__)


__path__ = _Path()


def __getattr__(name: str) -> Any:
    """Whatever else somebody wants of click_repl."""
    if name.startswith("__"):
        raise AttributeError(name)
    try:
        return getattr(load(), name)
    except ImportError as error:
        raise AttributeError(name) from error
