"""cert-manager's controller, built from its Go module, as a process of this machine that works on the cluster.

1.11 is the last release whose controller is part of that module. Its webhook is left out: it refuses wrong objects and
changes none.
"""

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.support.cluster import run
from tests.support.processes import free_port, start_process

__all__ = ["ISSUER", "build_issuer", "running_cert_manager"]

MODULE = "github.com/cert-manager/cert-manager"
VERSION = "v1.11.5"
SUM = "h1:K2LurvwIE4hIhODQZnkOW6ljYe3lVMAliS/to+gI05o="  # as go.sum has it
BUILD_SECONDS = 3600
ISSUER = "test-authority"
GROUP = "cert-manager.io/v1"
Json = dict[str, object]


def _fetch() -> Path:
    """The module's folder in Go's cache, its content checked."""
    command = ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cert-manager's Go module cannot be had: {error}")
    found = json.loads(printed)
    assert found["Sum"] == SUM, f"{MODULE} {VERSION} has the content {found['Sum']}"
    return Path(found["Dir"])


def _build(source: Path) -> Path:
    """The controller; built once, two minutes on two cores."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    target = caches / "taskfleet" / f"cert-manager-{VERSION}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        command = ["go", "build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w"]
        partial = target.with_suffix(".new")
        environment = {**os.environ, "CGO_ENABLED": "0"}
        command += ["-o", str(partial), "./cmd/controller"]
        subprocess.run(command, cwd=source, env=environment, check=True, timeout=BUILD_SECONDS)
        partial.rename(target)
    return target


def _read_crds(source: Path) -> str:
    """Its kinds; labels are templates of its chart there."""
    documents = []
    for path in sorted((source / "deploy/crds").glob("crd-*.yaml")):
        lines = [line for line in path.read_text().splitlines() if "{{" not in line]
        document = yaml.safe_load("\n".join(lines))
        document["metadata"].pop("labels", None)
        documents.append(document)
    return yaml.safe_dump_all(documents)


@contextlib.contextmanager
def running_cert_manager(environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """cert-manager for the length of a with block; its kinds go with it."""
    source = _fetch()
    program = _build(source)
    crds = _read_crds(source)
    run(["kubectl", "apply", "--server-side", "-f", "-"], environment, text=crds)
    run(["kubectl", "wait", "--for=condition=Established", "crd", "certificates.cert-manager.io"], environment)
    command = [str(program), "--kubeconfig", environment["KUBECONFIG"], "--leader-elect=false"]
    command += ["--metrics-listen-address", f"127.0.0.1:{free_port()}"]
    process = start_process(command, env=environment, log=folder / "cert-manager.log")
    try:
        yield
    finally:
        process.kill()
        run(["kubectl", "delete", "--wait=false", "-f", "-"], environment, text=crds)


def build_issuer() -> str:
    """An authority of the namespace: it signs its own certificate, and then those of the servers."""
    documents: list[Json] = [
        {"apiVersion": GROUP, "kind": "Issuer", "metadata": {"name": "itself"}, "spec": {"selfSigned": {}}},
        {
            "apiVersion": GROUP,
            "kind": "Certificate",
            "metadata": {"name": ISSUER},
            "spec": {
                "isCA": True,
                "commonName": ISSUER,
                "secretName": ISSUER,
                "privateKey": {"algorithm": "ECDSA", "size": 256},
                "issuerRef": {"name": "itself", "kind": "Issuer"},
            },
        },
        {
            "apiVersion": GROUP,
            "kind": "Issuer",
            "metadata": {"name": ISSUER},
            "spec": {"ca": {"secretName": ISSUER}},
        },
    ]
    return yaml.safe_dump_all(documents)
