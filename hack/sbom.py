#!/usr/bin/env python3
"""Writes a bill of materials (CycloneDX 1.6, JSON) for each image, from the pinned requirements.

The same pins give the same bytes: no time, and a serial number made of the content. `make sbom` puts them into .sbom/.
"""

import json
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["PARTS", "Pin", "build_sbom", "main", "read_pins"]

ROOT = Path(__file__).resolve().parent.parent
# What is delivered -> the distributions of ours in it, and its requirements.
PARTS = {
    "api": (("core", "api", "worker", "cli"), "runtime"),
    "operator": (("core", "worker", "operator"), "operator"),
    "worker": (("worker",), "worker"),
}
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)([^\\\n]*)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
VIA = re.compile(r"^    #(?: via)?\s+(\S.*)$")
NAMESPACE = uuid.UUID("6b0f5f0c-5a0e-4a0f-9d3c-1c4b8f0f9a11")


@dataclass
class Pin:
    """One package as it is pinned: the digests of all its files, and who asks for it."""

    name: str
    version: str
    marker: str = ""
    digests: list[str] = field(default_factory=list)
    wanted_by: list[str] = field(default_factory=list)

    @property
    def reference(self) -> str:
        """The package URL."""
        return f"pkg:pypi/{self.name.lower().replace('_', '-')}@{self.version}"


def read_pins(text: str) -> Iterator[Pin]:
    """The pins of a requirements file as uv compiles it."""
    pin: Pin | None = None
    for line in text.splitlines():
        if found := PIN.match(line):
            if pin is not None:
                yield pin
            pin = Pin(found[1], found[2], found[3].strip(" ;"))
        elif pin is not None and (digest := HASH.search(line)):
            pin.digests.append(digest[1])
        elif pin is not None and (via := VIA.match(line)) and not via[1].startswith(("-r ", "-c ", "via")):
            pin.wanted_by.append(via[1])
    if pin is not None:
        yield pin


def build_sbom(part: str) -> dict[str, Any]:
    """The bill of one part."""
    folders, requirements = PARTS[part]
    pins = list(read_pins((ROOT / "requirements" / f"{requirements}.txt").read_text(encoding="utf-8")))
    own = [_read_own(folder) for folder in folders]
    whole = f"taskfleet-{part}"
    depends = {pin.name: sorted(other.reference for other in pins if pin.name in other.wanted_by) for pin in pins}
    wanted = sorted(pin.reference for pin in pins if not pin.wanted_by)
    body = {
        "metadata": {
            "component": {"type": "application", "bom-ref": whole, "name": whole, "version": own[0]["version"]},
            "properties": [{"name": "requirements", "value": f"requirements/{requirements}.txt"}],
        },
        "components": [*own, *map(_build_component, pins)],
        "dependencies": [
            {"ref": whole, "dependsOn": sorted([*(item["bom-ref"] for item in own), *wanted])},
            *({"ref": pin.reference, "dependsOn": depends[pin.name]} for pin in pins),
        ],
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(body, sort_keys=True))
    return {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1, **body}


def _read_own(folder: str) -> dict[str, Any]:
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    reference = f"pkg:pypi/{project['name']}@{project['version']}"
    licence = [{"license": {"id": "Apache-2.0"}}]
    named = {"name": project["name"], "version": project["version"], "purl": reference, "licenses": licence}
    return {"type": "library", "bom-ref": reference, **named}


def _build_component(pin: Pin) -> dict[str, Any]:
    """A pin stands for several files (one for each platform): their digests are properties, not its own hash."""
    properties = [{"name": "file:sha256", "value": digest} for digest in pin.digests]
    if pin.marker:
        properties.append({"name": "marker", "value": pin.marker})
    head = {"type": "library", "bom-ref": pin.reference, "name": pin.name, "version": pin.version}
    return {**head, "purl": pin.reference, "properties": properties}


def main(folder: Path) -> int:
    """Write all bills into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        bill = build_sbom(part)
        path = folder / f"taskfleet-{part}.cdx.json"
        path.write_text(json.dumps(bill, indent=2) + "\n", encoding="utf-8")
        print(f"{path}: {len(bill['components'])} components")  # noqa: T201 - what the command says
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".sbom")))
