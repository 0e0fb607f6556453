"""`python -m tests.faults.on_cluster`: the kill matrix on the one-node Kubernetes, accounted task by task.

Writes tests/faults/results/cluster.json after each cell. Exit code 1 when a promise was broken.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from benchmarks.figures import describe_machine
from tests.faults.cluster_ground import ClusterGround, open_cluster_ground
from tests.faults.cluster_matrix import GROUPS, Group
from tests.faults.pod_network import find_lacking
from tests.faults.results import Place, save_cells
from tests.faults.scheduling import draw_seed
from tests.faults.striking import Fault, Pace, run_cell

COMMAND = "make faults-cluster"


def main() -> int:
    """Run what is asked for, each group on an installation of its own."""
    parser = argparse.ArgumentParser(prog="tests.faults.on_cluster", description=__doc__)
    parser.add_argument("--only", action="append", help="only faults whose name holds this text; may be said again")
    parser.add_argument("--list", action="store_true", help="only list the faults")
    parser.add_argument("--seed", type=int, help="of the first random schedule; the others count up")
    options = parser.parse_args()
    wanted = options.only or [""]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the network is mended and the installation goes
    if lacking := find_lacking():
        _say(f"this machine lacks what the network's faults need: {lacking}")
        return 2
    seed = draw_seed() if options.seed is None else options.seed
    _say(f"seed {seed}")
    runner = Runner([fault for group in GROUPS for fault in group.faults], seed)
    for group in GROUPS:
        chosen = [fault for fault in group.faults if any(text in fault.name for text in wanted)]
        if options.list:
            _say("".join(f"\n  {fault.name}" for fault in chosen))
        elif chosen:
            runner.run(group, chosen)
    for name in runner.broken:
        _say(f"BROKEN: {name}")
    return 1 if runner.broken else 0


class Runner:
    """Runs cells one after the other; one that cannot be brought to an end does not keep the next from being tried."""

    def __init__(self, every: Sequence[Fault], seed: int) -> None:
        self._order = [fault.name for fault in every]
        drawn = [fault.name for fault in every if fault.is_random]
        self._seeds = {name: seed + number for number, name in enumerate(drawn)}
        self._machine = describe_machine()
        self._loads = [os.getloadavg()[0]]
        self.broken: list[str] = []

    def run(self, group: Group, chosen: Sequence[Fault]) -> None:
        """These faults of a group."""
        left = list(chosen)
        try:
            with open_cluster_ground(group.options) as ground:
                while left:
                    ground.wait_whole()
                    self._run(ground, left.pop(0), group.pace)
        except Exception as error:
            _say(f"an installation could not be made or was lost: {error!r}")
            self.broken += [f"{fault.name}: not tried" for fault in left]

    def _run(self, ground: ClusterGround, fault: Fault, pace: Pace) -> None:
        try:
            found, account = run_cell(ground, fault, pace, self._seeds.get(fault.name, 0))
        except Exception as error:
            _say(f"{fault.name}: could not be brought to an end: {error!r}")
            self.broken.append(fault.name)
            return
        cell = replace(found, place=Place.CLUSTER)
        _say(
            f"{fault.name}: {account}\n  recovered in {cell.recovery_seconds} s, settled in {cell.settled_seconds} s, "
            f"{cell.refused} refused; {cell.seconds} s in all; {cell.note}"
        )
        if not cell.holds:
            self.broken.append(fault.name)
        self._loads.append(os.getloadavg()[0])
        during = f"{self._machine} While it ran: {min(self._loads):.0f} to {max(self._loads):.0f}."
        save_cells(Place.CLUSTER, [cell], command=COMMAND, machine=during, order=self._order)


def _say(text: str) -> None:
    sys.stdout.write(time.strftime("%H:%M:%S ") + text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
