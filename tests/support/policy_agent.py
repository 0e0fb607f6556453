"""An agent that enforces NetworkPolicies on the one-node cluster: Cilium's, built from its Go module.

It is chained to the plugin of the cluster (`generic-veth`) and does nothing else: addresses, routes and Services stay
as they are. Pods made within `running_policy_agent()` are its endpoints; those made before go on without policies.
"""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.support.cluster import run
from tests.support.processes import ManagedProcess, free_port, start_process

__all__ = ["running_policy_agent"]

MODULE = "github.com/cilium/cilium"
VERSION = "v1.20.2"
SUM = "h1:dqiEGIcXc+gqCLYG/l7VCFJ8GHyb4HUrwbZOpkX5dL8="  # as go.sum has it; its own go.sum is within
# It asks for a commit of GoBGP between two releases, which not every proxy has. The agent speaks no BGP here, and this
# release has what it is compiled against. The lines are those of go.sum.
BGP = "github.com/osrg/gobgp/v4"
BGP_VERSION = "v4.5.0"
BGP_SUMS = (
    f"{BGP} {BGP_VERSION} h1:1jS4cMxUYSo36UfDyigLOLYEg6Oh+9I2mrnjjgAGCFk=\n"
    f"{BGP} {BGP_VERSION}/go.mod h1:pgu8waqTvZUYl4eQuPrKNOaVwhHv7Zt9YymuzCaX7f8=\n"
)
COMPILER = "clang-19"  # the agent compiles its programs for the kernel when it starts
COMMANDS = {"cilium-agent": "./daemon", "cilium-cni": "./plugins/cilium-cni"}
BUILD_SECONDS = 3600
READY_SECONDS = 180
PLUGINS = Path("/usr/lib/cni")  # where the cluster's containerd looks for plugins
STATE = Path("/var/run/cilium")  # where the plugin looks for the agent's socket
ROUTER = "169.254.23.1"  # of a device that nothing is sent to
OPTIONS = {
    "cni-chaining-mode": "generic-veth",
    "routing-mode": "native",
    "ipam": "delegated-plugin",
    "local-router-ipv4": ROUTER,
    "identity-allocation-mode": "crd",
    "enable-ipv6": "false",
    "enable-ipv4-masquerade": "false",
    "enable-ipv6-masquerade": "false",
    "enable-l7-proxy": "false",
    "enable-hubble": "false",
    "enable-health-checking": "false",
    "enable-endpoint-health-checking": "false",
    "enable-gops": "false",
}
# The kernel's settings outside of the network stay as they are. The mounts are the agent's own, above all that of its
# programs: they leave the kernel with it.
START = """set -e
mount --bind /proc/sys/kernel /proc/sys/kernel
mount -o remount,bind,ro /proc/sys/kernel
exec "$@"
"""


def _fetch() -> Path:
    """The module's folder in Go's cache, its content checked."""
    command = ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"Cilium's Go module cannot be had: {error}")
    found = json.loads(printed)
    assert found["Sum"] == SUM, f"{MODULE} {VERSION} has the content {found['Sum']}"
    return Path(found["Dir"])


def _build(source: Path) -> Path:
    """A folder with agent, plugin and the sources of the agent's programs; built once, ten minutes on two cores."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    folder = caches / "taskfleet" / f"cilium-{VERSION}"
    if (folder / "complete").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    modules = folder / "go.mod"
    shutil.copyfile(source / "go.mod", modules)
    (folder / "go.sum").write_text((source / "go.sum").read_text() + BGP_SUMS)
    environment = {**os.environ, "CGO_ENABLED": "0"}
    replace = ["go", "mod", "edit", "-replace", f"{BGP}={BGP}@{BGP_VERSION}", str(modules)]
    subprocess.run(replace, env=environment, check=True, timeout=60)
    for name, package in COMMANDS.items():
        command = ["go", "build", f"-modfile={modules}", "-mod=readonly", "-buildvcs=false", "-trimpath"]
        command += ["-ldflags", "-s -w", "-o", str(folder / name), package]
        subprocess.run(command, cwd=source, env=environment, check=True, timeout=BUILD_SECONDS)
    shutil.copytree(source / "bpf", folder / "bpf", copy_function=shutil.copyfile)
    (folder / "complete").touch()
    return folder


def _find_compiler(folder: Path) -> Path:
    """A folder for PATH in which the compiler has the name that the agent calls; installs it where it is missing."""
    if not shutil.which(COMPILER):
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", COMPILER]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False, timeout=300)
        subprocess.run(command, env=environment, capture_output=True, check=False, timeout=600)
    found = shutil.which(COMPILER)
    if found is None:
        pytest.skip(f"the agent compiles its programs with {COMPILER}, which Debian does not give here")
    tools = folder / "tools"
    tools.mkdir()
    (tools / "clang").symlink_to(found)
    return tools


@contextlib.contextmanager
def running_policy_agent(environment: Mapping[str, str], folder: Path) -> Iterator[ManagedProcess]:
    """NetworkPolicies are enforced for the length of a with block; the cluster is then as it was before."""
    source = _fetch()
    built = _build(source)
    tools = _find_compiler(folder)
    crds = [str(source / "pkg/k8s/apis/cilium.io/client/crds" / version) for version in ("v2", "v2alpha1")]
    files = [part for crd in crds for part in ("-f", crd)]
    with contextlib.ExitStack() as closing:
        run(["kubectl", "apply", "--server-side", *files], environment)
        closing.callback(run, ["kubectl", "delete", "--wait=false", "--ignore-not-found", *files], environment)
        run(["kubectl", "wait", "--for=condition=Established", *files], environment)
        _remove_traces()  # of a run that was killed
        closing.callback(_remove_traces)
        agent = _start(built, tools, folder, environment)
        closing.callback(agent.kill)
        closing.enter_context(_chained(built, Path(environment["KUBECONFIG"]).parent / "cni/10-bridge.conflist"))
        yield agent


def _start(built: Path, tools: Path, folder: Path, environment: Mapping[str, str]) -> ManagedProcess:
    health = f"http://127.0.0.1:{(port := free_port())}/healthz"
    node = run(["kubectl", "get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"], environment)
    options = OPTIONS | {
        "k8s-kubeconfig-path": environment["KUBECONFIG"],
        "lib-dir": str(built),
        "agent-health-port": str(port),
    }

    def is_healthy() -> bool:
        try:
            return httpx.get(health, headers={"brief": "true"}, timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    command = ["unshare", "--mount", "sh", "-c", START, "sh", str(built / "cilium-agent")]
    return start_process(
        [*command, *(f"--{name}={value}" for name, value in options.items())],
        env={**environment, "PATH": f"{tools}:{os.environ['PATH']}", "K8S_NODE_NAME": node},
        log=folder / "cilium-agent.log",
        ready=is_healthy,
        timeout_seconds=READY_SECONDS,
    )


@contextlib.contextmanager
def _chained(built: Path, configuration: Path) -> Iterator[None]:
    """The agent's plugin runs after the cluster's own for each new pod."""
    before = configuration.read_text()
    network = json.loads(before)
    network["plugins"].append({"type": "cilium-cni", "chaining-mode": "generic-veth"})
    plugin = PLUGINS / "cilium-cni"
    plugin.unlink(missing_ok=True)
    plugin.symlink_to(built / "cilium-cni")
    try:
        # In place: containerd reads its network again for a write, not for a file that takes another's name.
        configuration.write_text(json.dumps(network))
        yield
    finally:
        configuration.write_text(before)
        plugin.unlink()


def _remove_traces() -> None:
    """What the agent leaves behind by design, so that pods are not cut off while it is restarted."""
    subprocess.run(["ip", "link", "delete", "cilium_host"], capture_output=True, check=False, timeout=60)
    for table in ("raw", "mangle", "nat", "filter"):
        command = ["iptables", "--wait", "--table", table]
        save = ["iptables-save", "--table", table]
        lines = subprocess.run(save, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
        chains = [line[1:].split()[0] for line in lines if line.startswith(":CILIUM_")]
        ours = [line for line in lines if line.startswith("-A ") and " -j CILIUM_" in line]
        calls = [["--delete", *shlex.split(line)[1:]] for line in ours]
        calls += [[option, chain] for option in ("--flush", "--delete-chain") for chain in chains]
        for call in calls:
            subprocess.run([*command, *call], capture_output=True, check=False, timeout=60)
    shutil.rmtree(STATE, ignore_errors=True)
