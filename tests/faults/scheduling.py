"""Random schedules: faults of a pool, drawn from a cell's seed, one after the other with little in between."""

import random
from collections.abc import Sequence
from dataclasses import replace

from tests.faults.striking import Fault, Field, Strike

__all__ = ["STEPS", "build_random", "draw_seed"]

STEPS = 5
AFTER_STEP = (20, 60)  # tasks accepted between two strikes
SHORT_SECONDS = (1.0, 6.0)  # what lasts, lasts shorter than by itself
OUTAGE_SECONDS = (0.0, 3.0)


def build_random(number: int, pool: Sequence[Fault], steps: int = STEPS) -> Fault:
    """A schedule of faults of this pool: each may follow any other at once."""
    return Fault(f"random schedule {number}", "Random", _build_schedule(pool, steps), is_random=True)


def _build_schedule(pool: Sequence[Fault], steps: int) -> Strike:
    def strike(field: Field) -> None:
        drawn = []
        for _ in range(steps):
            fault = field.chance.choice(pool)
            drawn.append(fault.name)
            field.pace = replace(
                field.pace,
                network_seconds=field.chance.uniform(*SHORT_SECONDS),
                outage_seconds=field.chance.uniform(*OUTAGE_SECONDS),
            )
            fault.strike(field)
            field.load.wait_accepted(field.chance.randint(*AFTER_STEP))
        field.facts["drawn"] = "; ".join(drawn) + "."

    return strike


def draw_seed() -> int:
    """A new seed, to be printed."""
    return random.SystemRandom().randrange(2**32)
