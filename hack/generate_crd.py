"""Writes the CRDs from their models to the place that ships them; `--check` fails when one is out of date."""

import sys
from pathlib import Path

import yaml
from generated import keep_files

from taskfleet_core.crd import build_crd, build_policy_crd

ROOT = Path(__file__).resolve().parent.parent
TARGETS = (("taskqueue", build_crd), ("policy.py", build_policy_crd))
HEADER = "# Generated from core/src/taskfleet_core/{source} by `make generate`. Do not edit.\n"


class _Plain(yaml.SafeDumper):
    """Writes equal values out each time: a CRD with anchors is hard to read and to patch."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def build_files() -> dict[Path, str]:
    """The text of each CRD by its path."""
    files = {}
    for source, build in TARGETS:
        crd = build()
        text = yaml.dump(crd, Dumper=_Plain, sort_keys=False, width=120)
        files[ROOT / "k8s/crd" / f"{crd['metadata']['name']}.yaml"] = HEADER.format(source=source) + text
    return files


def main() -> int:
    """Write or check; the exit status says whether all is up to date."""
    return keep_files(build_files())


if __name__ == "__main__":
    sys.exit(main())
