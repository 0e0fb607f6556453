"""The bills of materials name every pinned package, who needs whom, and are the same each time."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
REQUIREMENTS = {"api": "runtime", "operator": "operator", "worker": "worker"}


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", ROOT / "hack/sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sbom"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=list(REQUIREMENTS))
def part(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_pin_is_a_component_with_the_digests_of_its_files(sbom: ModuleType, part: str) -> None:
    text = (ROOT / "requirements" / f"{REQUIREMENTS[part]}.txt").read_text()
    pins = set(re.findall(r"^([a-zA-Z0-9._-]+)(?:\[.*\])?==(\S+)", text, re.MULTILINE))
    components: list[dict[str, Any]] = sbom.build_sbom(part)["components"]
    foreign = [item for item in components if "licenses" not in item]
    assert {(item["name"], item["version"]) for item in foreign} == pins
    digests = [entry["value"] for item in foreign for entry in item["properties"] if entry["name"] == "file:sha256"]
    assert sorted(digests) == sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))


def test_every_component_is_reached_from_the_whole(sbom: ModuleType, part: str) -> None:
    bill = sbom.build_sbom(part)
    needs = {item["ref"]: item["dependsOn"] for item in bill["dependencies"]}
    reached, open_ends = set(), [bill["metadata"]["component"]["bom-ref"]]
    while open_ends:
        reference = open_ends.pop()
        if reference not in reached:
            reached.add(reference)
            open_ends += needs.get(reference, ())
    components = {item["bom-ref"] for item in bill["components"]}
    assert len(components) == len(bill["components"])
    assert components <= reached
    assert {reference for found in needs.values() for reference in found} <= components


def test_the_same_pins_give_the_same_bytes(sbom: ModuleType, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        sbom.main(tmp_path / folder)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        bill = json.loads(path.read_text())
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
        assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", bill["serialNumber"])
