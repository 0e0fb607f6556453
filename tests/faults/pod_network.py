"""Faults of the network between two pods, made by netfilter in one end's network namespace, packet by packet.

Only packets between the two are met: the kubelet's probes and all else that the pod talks to go on.
A kernel without `tc netem` delays nothing by itself, so `delaying.c` does it behind a netfilter queue.
"""

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.support.processes import ManagedProcess, start_process

__all__ = ["DELAY_SECONDS", "Disturbance", "NetworkFault", "Side", "find_lacking"]

DELAY_SECONDS = 0.1  # for each packet, in both directions
COMMAND_SECONDS = 60
QUEUE_NUMBER = 1 + os.getpid() % 60_000  # the machine's own namespace is shared with other runs


class NetworkFault(StrEnum):
    """What becomes of the packets."""

    REFUSED = "refused"  # answered by a reset
    DROPPED = "dropped"
    DELAYED = "delayed"


@dataclass(frozen=True)
class Side:
    """One end of a link: whose packets to and from the peers are met."""

    namespace: str  # path of a network namespace; empty is the machine's own
    peers: frozenset[str]  # addresses, as this end sees them

    def enter(self, *command: str) -> list[str]:
        """The command, as it is run there."""
        return ["nsenter", f"--net={self.namespace}", *command] if self.namespace else list(command)


def find_lacking() -> str:
    """What this machine lacks for these faults; empty when it has all."""
    needed = ("iptables-restore", "nsenter", "gcc")
    if os.geteuid():
        return "root"
    return ", ".join(name for name in needed if not shutil.which(name))


class Disturbance:
    """One fault on one link, on every end that `find_sides` names; lift it in any case."""

    def __init__(self, fault: NetworkFault, find_sides: Callable[[], Iterable[Side]]) -> None:
        self._fault, self._find_sides = fault, find_sides
        self._met: dict[str, tuple[Side, ManagedProcess | None]] = {}  # by namespace

    def spread(self) -> None:
        """Strike every end that was not struck yet: a pod may have come meanwhile."""
        for side in self._find_sides():
            if side.namespace not in self._met:
                delaying = _start_delaying(side) if self._fault is NetworkFault.DELAYED else None
                self._met[side.namespace] = side, delaying
                _restore(side, _build_rules(self._fault, side, "-I"))

    def lift(self) -> None:
        """All packets pass again. A pod that is gone took its rules along."""
        for side, delaying in self._met.values():
            with contextlib.suppress(subprocess.CalledProcessError):
                _restore(side, _build_rules(self._fault, side, "-D"))
            if delaying is not None:
                delaying.terminate()
        self._met.clear()


def _build_rules(fault: NetworkFault, side: Side, verb: str) -> str:
    """Input for iptables-restore: the rules of both directions added (-I) or deleted (-D)."""
    target = {
        # Resets pass, or the answer to what comes in would itself be met on its way out.
        NetworkFault.REFUSED: "-p tcp ! --tcp-flags RST RST -j REJECT --reject-with tcp-reset",
        NetworkFault.DROPPED: "-j DROP",
        # Without a program behind the queue, packets pass.
        NetworkFault.DELAYED: f"-j NFQUEUE --queue-num {QUEUE_NUMBER} --queue-bypass",
    }[fault]
    lines = [
        f"{verb} {chain} {match} {target}" for peer in sorted(side.peers) for chain, match in _build_matches(side, peer)
    ]
    return "\n".join(["*filter", *lines, "COMMIT", ""])


def _build_matches(side: Side, peer: str) -> list[tuple[str, str]]:
    if side.namespace:
        return [("OUTPUT", f"-d {peer}"), ("INPUT", f"-s {peer}")]
    # On the node a Service's address is another one by now; the connection knows which was called.
    match = f"-m conntrack --ctorigdst {peer}"
    return [("OUTPUT", match), ("INPUT", match)]


def _restore(side: Side, rules: str) -> None:
    command = side.enter("iptables-restore", "--noflush", "--wait", "10")
    subprocess.run(command, input=rules, text=True, check=True, capture_output=True, timeout=COMMAND_SECONDS)


def _start_delaying(side: Side) -> ManagedProcess:
    program = _build_delaying()
    log = Path(tempfile.mkstemp(suffix=".log", dir=program.parent)[1])
    command = side.enter(str(program), str(QUEUE_NUMBER), str(int(DELAY_SECONDS * 1000)))
    return start_process(command, log=log, ready=lambda: "ready" in log.read_text(), timeout_seconds=COMMAND_SECONDS)


@functools.cache
def _build_delaying() -> Path:
    program = Path(tempfile.mkdtemp(prefix="delaying-")) / "delaying"
    source = Path(__file__).with_name("delaying.c")
    command = ["gcc", "-O2", "-o", str(program), str(source), "-lnetfilter_queue"]
    subprocess.run(command, check=True, capture_output=True, timeout=COMMAND_SECONDS)
    return program
