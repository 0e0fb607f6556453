"""The commands that docs/runbooks.md tells people to run, as they stand there."""

import re
import shlex
from pathlib import Path

__all__ = ["find_commands"]

PAGE = Path(__file__).resolve().parents[2] / "docs/runbooks.md"


def find_commands(program: str, **names: str) -> list[list[str]]:
    """The words of each command of this program, without it; `names` says what stands for QUEUE and the like."""
    found = re.findall(rf"`{program} ([^`]+)`", PAGE.read_text())
    return [
        [names.get(word, word) for word in shlex.split(text.replace("=QUEUE", f"={names['QUEUE']}"))] for text in found
    ]
