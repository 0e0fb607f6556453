"""`python -m tests.faults`: the whole matrix on this machine, accounted task by task. Only 127.0.0.1 is used.

Writes tests/faults/results/local.json after each cell. Exit code 1 when a promise was broken.
"""

import argparse
import itertools
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from benchmarks.figures import describe_machine
from tests.faults.ground import FaultStack, GroundOptions, open_ground
from tests.faults.matrix import FAULTS, POOL
from tests.faults.results import Cell, Place, save_cells
from tests.faults.scheduling import build_random, draw_seed
from tests.faults.striking import Fault, Pace, run_cell

COMMAND = "make faults"
RANDOM_CELLS = 3
LANES = 2
MOST_STACKS = 10  # for one lane
FRESH_SECONDS = 4  # RabbitMQ forgets a quorum queue that is younger when it is killed


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TEXT",
        help="only faults whose name holds this text; may be given again",
    )
    parser.add_argument("--seed", type=int, help="of the first random schedule; the others count up")
    parser.add_argument("--random", type=int, default=RANDOM_CELLS, help="random schedules (default 3)")
    parser.add_argument("--lanes", type=int, default=LANES, help=f"stacks beside each other (default {LANES})")
    parser.add_argument("--list", action="store_true", help="only list the faults")
    options = parser.parse_args()
    seed = draw_seed() if options.seed is None else options.seed
    every = [*FAULTS, *(build_random(number, POOL) for number in range(1, options.random + 1))]
    chosen = [fault for fault in every if not options.only or any(text in fault.name for text in options.only)]
    _say(f"seed {seed}; {len(chosen)} cells" + "".join(f"\n  {fault.name}" for fault in chosen if options.list))
    runner = Runner(seed, [fault.name for fault in every])
    if not options.list:
        runner.run(chosen, options.lanes)
    for name in runner.broken:
        _say(f"BROKEN: {name}")
    return 1 if runner.broken else 0


class Runner:
    """Runs cells in lanes beside each other, each with a stack of its own: most of a cell's time is waiting."""

    def __init__(self, seed: int, order: list[str]) -> None:
        self._seed = seed
        self._order = order
        self._machine = describe_machine()
        self._lock = threading.Lock()
        self.broken: list[str] = []  # names of cells that broke a promise or could not be brought to an end

    def run(self, chosen: list[Fault], lanes: int) -> None:
        """All of them; those on an ordinary stack in several lanes."""
        with ThreadPoolExecutor(lanes) as pool:
            for ground in dict.fromkeys(fault.ground for fault in chosen):
                left = deque(fault for fault in chosen if fault.ground == ground)
                for _ in range(lanes if len(left) > lanes else 1):
                    pool.submit(self._run_lane, ground, left)

    def _run_lane(self, ground: GroundOptions, left: deque[Fault]) -> None:
        """Until nothing is left; a cell that leaves its stack unusable costs the lane a new one."""
        stacks = itertools.count(1)
        while left and next(stacks) <= MOST_STACKS:
            try:
                with open_ground(ground) as stack:
                    time.sleep(FRESH_SECONDS)
                    while self._run_next(stack, left):
                        pass
            except Exception as error:
                _say(f"a stack could not be made or was lost: {error!r}")
                self.broken.append("a stack")

    def _run_next(self, stack: FaultStack, left: deque[Fault]) -> bool:
        """Whether the stack is good for another cell."""
        try:
            fault = left.popleft()
        except IndexError:
            return False
        number = int(fault.name.rsplit(" ", 1)[1]) if fault.is_random else 1
        try:
            cell, account = run_cell(stack, fault, Pace(), self._seed + number - 1)
        except Exception as error:
            _say(f"{fault.name}: could not be brought to an end: {error!r}")
            self.broken.append(fault.name)
            return False
        _say(f"{fault.name}: {account}\n  {_describe(cell)}")
        with self._lock:
            save_cells(Place.LOCAL, [cell], command=COMMAND, machine=self._machine, order=self._order)
        if not cell.holds:
            self.broken.append(fault.name)
        return True


def _describe(cell: Cell) -> str:
    return (
        f"recovered in {cell.recovery_seconds} s, settled in {cell.settled_seconds} s, {cell.refused} refused; "
        f"{cell.seconds} s in all" + ("" if cell.seed is None else f"; seed {cell.seed}; {cell.note}")
    )


def _say(text: str) -> None:
    sys.stdout.write(time.strftime("%H:%M:%S ") + text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
