"""KEDA's operator and metrics adapter, built from its Go module and made into one image."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.support.cluster import run

from benchmarks.figures import say

__all__ = ["IMAGE", "VERSION", "build_image", "build_keda"]

MODULE = "github.com/kedacore/keda/v2"
VERSION = "v2.21.0"
SUM = "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps="  # of the module as go.sum has it; its own go.sum is within
IMAGE = f"docker.io/taskfleet/keda:{VERSION}"
BUILD_SECONDS = 3600
COMMANDS = {"keda": "./cmd/operator", "keda-adapter": "./cmd/adapter"}  # named as in KEDA's own manifests
CONTAINERFILE = """FROM scratch
COPY keda keda-adapter /
USER 1000:1000
"""


def build_keda() -> Path:
    """The folder with the two programs and KEDA's `config/`; built once, some minutes on two cores.

    Raises RuntimeError when the module is not the pinned one.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    folder = caches / "taskfleet" / f"keda-{VERSION}"
    if (folder / "complete").exists():
        return folder
    source = _fetch()
    say(f"building KEDA {VERSION} (once; minutes)")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source / "config", folder / "config", copy_function=shutil.copyfile)
    environment = {**os.environ, "CGO_ENABLED": "0"}
    # In the module's own folder: its go.mod replaces modules, which counts in a main module only.
    for name, package in COMMANDS.items():
        command = ["go", "build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w"]
        command += ["-o", str(folder / name), package]
        subprocess.run(command, cwd=source, env=environment, check=True, timeout=BUILD_SECONDS)
    (folder / "Containerfile").write_text(CONTAINERFILE)
    (folder / "complete").touch()
    return folder


def _fetch() -> Path:
    """The module's folder in Go's cache, its content checked."""
    command = ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    found = json.loads(printed)
    if found["Sum"] != SUM:
        raise RuntimeError(f"{MODULE} {VERSION} has the content {found['Sum']}, not {SUM}")
    return Path(found["Dir"])


def build_image(environment: Mapping[str, str], folder: Path) -> None:
    """Make the image and hand it to the cluster."""
    build = ["hack/local-cluster", "build", IMAGE, str(folder), "-f", str(folder / "Containerfile")]
    run(build, environment, timeout_seconds=600)
    run(["hack/local-cluster", "load", IMAGE], environment, timeout_seconds=600)
