"""`python -m tests.faults`: the whole matrix on this machine, accounted task by task. Only 127.0.0.1 is used.

Writes tests/faults/results/local.json after each cell. Exit code 1 when a promise was broken.
"""

import argparse
import sys
import time
from collections.abc import Iterable

from benchmarks.figures import describe_machine
from tests.faults.ground import GroundOptions, open_ground
from tests.faults.matrix import FAULTS, build_random, draw_seed
from tests.faults.results import Cell, Place, save_cells
from tests.faults.striking import Fault, Pace, run_cell

COMMAND = "make faults"
RANDOM_CELLS = 3
FRESH_SECONDS = 4  # RabbitMQ forgets a quorum queue that is younger when it is killed


def main() -> int:
    """Run what is asked for, one ground after the other."""
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--only", default="", help="only faults whose name holds this text")
    parser.add_argument("--seed", type=int, help="of the first random schedule; the others count up")
    parser.add_argument("--random", type=int, default=RANDOM_CELLS, help="random schedules (default 3)")
    parser.add_argument("--list", action="store_true", help="only list the faults")
    options = parser.parse_args()
    seed = draw_seed() if options.seed is None else options.seed
    every = [*FAULTS, *(build_random(number) for number in range(1, options.random + 1))]
    chosen = [fault for fault in every if options.only in fault.name]
    _say(f"seed {seed}; {len(chosen)} cells" + "".join(f"\n  {fault.name}" for fault in chosen if options.list))
    machine, order = describe_machine(), [fault.name for fault in every]
    broken = [] if options.list else list(_run(chosen, seed, machine, order))
    for name in broken:
        _say(f"BROKEN: {name}")
    return 1 if broken else 0


def _run(chosen: list[Fault], seed: int, machine: str, order: list[str]) -> Iterable[str]:
    """Names of the cells that broke a promise or could not be brought to an end."""
    for ground in dict.fromkeys(fault.ground for fault in chosen):
        left = [fault for fault in chosen if fault.ground == ground]
        while left:
            yield from _run_ground(ground, left, seed, machine, order)


def _run_ground(ground: GroundOptions, left: list[Fault], seed: int, machine: str, order: list[str]) -> Iterable[str]:
    """Run from `left` until it is empty or a cell leaves the stack unusable."""
    with open_ground(ground) as stack:
        time.sleep(FRESH_SECONDS)
        while left:
            fault = left.pop(0)
            number = int(fault.name.rsplit(" ", 1)[1]) if fault.is_random else 1
            try:
                cell, account = run_cell(stack, fault, Pace(), seed + number - 1)
            except Exception as error:
                _say(f"{fault.name}: could not be brought to an end: {error!r}")
                yield fault.name
                return
            _say(f"{fault.name}: {account}\n  {_describe(cell)}")
            save_cells(Place.LOCAL, [cell], command=COMMAND, machine=machine, order=order)
            if not cell.holds:
                yield fault.name


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
