"""Writes the CRD from the TaskQueue model to the places that ship it; `--check` fails when one is out of date."""

import sys
from pathlib import Path

import yaml

from taskfleet_core.crd import build_crd

ROOT = Path(__file__).resolve().parent.parent
TARGETS = (ROOT / "k8s/crd/taskqueues.taskfleet.dev.yaml",)
HEADER = "# Generated from core/src/taskfleet_core/taskqueue.py by `make generate`. Do not edit.\n"


class _Plain(yaml.SafeDumper):
    """Writes equal values out each time: a CRD with anchors is hard to read and to patch."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def main() -> int:
    """Write or check; the exit status says whether all is up to date."""
    wanted = HEADER + yaml.dump(build_crd(), Dumper=_Plain, sort_keys=False, width=120)
    stale = [path for path in TARGETS if not path.exists() or path.read_text(encoding="utf-8") != wanted]
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is out of date: run make generate\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
