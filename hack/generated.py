"""What every generator does with its texts in the end: write the files, or with `--check` say which are out of date."""

import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["keep_files"]

ROOT = Path(__file__).resolve().parents[1]


def keep_files(files: Mapping[Path, str]) -> int:
    """Exit status: 1 when the command line says `--check` and a file is not what it should be. Else they are written,
    those that are right left alone."""
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.resolve().relative_to(ROOT)} is out of date: run make generate\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
    return 0
