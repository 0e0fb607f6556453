"""Eight faults and a random schedule on one stack: nothing accepted is lost, and every second run has a cause."""

import sys
from collections.abc import Iterator

import pytest
from tests.faults.ground import FaultStack, open_ground
from tests.faults.matrix import FIXED, POOL
from tests.faults.scheduling import build_random, draw_seed
from tests.faults.striking import Fault, Pace, run_cell

pytestmark = [pytest.mark.kill, pytest.mark.timeout(300, func_only=True)]

PACE = Pace(before=80, after=40, per_second=60, network_seconds=3, outage_seconds=1, settle_seconds=60)


@pytest.fixture(scope="module")
def ground() -> Iterator[FaultStack]:
    """One stack for all faults: each leaves every part running again."""
    with open_ground() as stack:
        yield stack


@pytest.mark.parametrize(
    "fault", [pytest.param(each, id=each.name) for each in (*FIXED, build_random(1, POOL, steps=3))]
)
def test_nothing_accepted_is_lost(ground: FaultStack, fault: Fault) -> None:
    seed = draw_seed()
    if fault.is_random:
        sys.stdout.write(f"seed {seed}; the same again: make faults FAULTS='--only random --seed {seed}'\n")

    cell, account = run_cell(ground, fault, PACE, seed)

    sys.stdout.write(f"{fault.name}: {account}; {cell}\n")
    assert cell.holds, str(account)
