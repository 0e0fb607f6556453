#!/usr/bin/env python3
"""Writes the version of VERSION into the distributions, the pins between them, and the chart.

hack/set_version.py 0.2.0     sets VERSION and writes it everywhere
hack/set_version.py           writes what VERSION says
hack/set_version.py --check   exits 1 where something says another
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = ("core", "api", "worker", "cli", "operator")
VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
# What stands before a version and after it.
IN_PROJECT = re.compile(r'(^version = "|"taskfleet-(?:core|api|worker|operator)==)[^"]*(")', re.MULTILINE)
IN_CHART = re.compile(r'(^version: |^appVersion: ")[^"\n]*("?)', re.MULTILINE)


def iterate_files() -> Iterator[tuple[Path, re.Pattern[str]]]:
    """The files that say a version, and where in them."""
    for name in DISTRIBUTIONS:
        yield ROOT / name / "pyproject.toml", IN_PROJECT
    yield ROOT / "charts" / "taskfleet" / "Chart.yaml", IN_CHART


def main() -> int:
    """Set, write or check."""
    words, source = sys.argv[1:], ROOT / "VERSION"
    check = words == ["--check"]
    version = source.read_text().strip() if check or not words else words[0]
    if not VERSION.fullmatch(version):
        sys.stderr.write(f"{version!r} is no version: write one such as 0.2.0 or 1.0.0rc1\n")
        return 2
    stale = []
    for path, pattern in iterate_files():
        text = path.read_text()
        wanted = pattern.sub(rf"\g<1>{version}\g<2>", text)
        if text != wanted:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(wanted)
    if not check:
        source.write_text(f"{version}\n")
        return 0
    if stale:
        sys.stderr.write(f"not version {version}: {', '.join(stale)}; run hack/set_version.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
