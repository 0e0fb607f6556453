"""The command line that all benchmarks share."""

import argparse
from collections.abc import Sequence

__all__ = ["build_parser"]


def build_parser(
    program: str,
    description: str | None,
    *,
    parts: Sequence[str] = (),
    rounds: int | None = 5,
    page: str = "docs/benchmarks.md",
) -> argparse.ArgumentParser:
    """A parser with `--write`, with `--rounds` unless there is no default for it, with `--only` if there are parts."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds per figure (default {rounds})")
    if parts:
        parser.add_argument("--only", choices=parts, action="append", help="only this part; may be repeated")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {page}")
    return parser
