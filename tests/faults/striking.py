"""What a cell is made of: a fault, the field in which it strikes, and the run from the first task to the account."""

import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
from tests.faults.generator import QUEUE, Load
from tests.faults.ground import FaultStack, GroundOptions
from tests.faults.results import Cell, Place
from tests.support.ledger import Account
from tests.support.stack import API_PREFIX
from tests.support.waiting import eventually_sync

__all__ = ["Fault", "Field", "Pace", "Strike", "measure_recovery", "run_cell"]

PROBE_SECONDS = 120
ORDINARY = GroundOptions()


@dataclass(frozen=True)
class Pace:
    """How much is submitted around a fault, and how long what lasts does last."""

    before: int = 100  # accepted before the fault
    after: int = 60  # accepted after it
    per_second: float = 25.0
    network_seconds: float = 30.0
    outage_seconds: float = 3.0  # from a kill to the restart of what was killed
    settle_seconds: float = 120.0
    load_seconds: float = 240.0  # the load gives up after that, whatever goes on


@dataclass
class Field:
    """What a strike may touch."""

    stack: FaultStack
    load: Load
    pace: Pace
    chance: random.Random
    facts: dict[str, str] = field(default_factory=dict)
    recovery: Future[float] | None = None

    def lift(self) -> None:
        """The repair begins: recovery is measured from here, while the repair goes on. The last call counts."""
        pool = ThreadPoolExecutor(1)
        self.recovery = pool.submit(measure_recovery, self.stack)
        pool.shutdown(wait=False)

    def last(self, seconds: float | None = None) -> None:
        """The fault lasts: this is the fault itself, nothing is awaited."""
        time.sleep(self.pace.outage_seconds if seconds is None else seconds)


Strike = Callable[[Field], None]


@dataclass(frozen=True)
class Fault:
    """One row of the matrix."""

    name: str
    part: str
    strike: Strike
    ground: GroundOptions = ORDINARY
    before: int | None = None  # instead of the pace's
    note: str = ""
    is_random: bool = False
    mend: Callable[[FaultStack], None] | None = None  # what is left to do once all is accounted for


def run_cell(stack: FaultStack, fault: Fault, pace: Pace, seed: int) -> tuple[Cell, Account]:
    """Submit, strike, measure the recovery, settle and account. Raises AssertionError when the load cannot go on."""
    begun = time.monotonic()
    load = Load(
        stack.submit_url, stack.directory, per_second=pace.per_second, deadline_seconds=pace.load_seconds
    ).start()
    around = Field(stack, load, pace, random.Random(seed))
    try:
        load.wait_accepted(pace.before if fault.before is None else fault.before)
        fault.strike(around)
        assert around.recovery is not None, "a strike says when its repair begins"
        recovery_seconds = around.recovery.result()
        load.wait_accepted(pace.after)
    finally:
        load.finish()
    finished_at = time.monotonic()
    account = load.account(pace.settle_seconds)
    now = time.monotonic()
    if fault.mend is not None:
        fault.mend(stack)
    cell = Cell(
        fault=fault.name,
        part=fault.part,
        place=Place.LOCAL,
        accepted=account.accepted,
        executed=account.executed,
        lost=len(account.lost),
        untold=len(account.untold),
        strays=len(account.strays),
        unexpected=len(account.unexpected),
        states=dict(account.states),
        duplicates={cause.value: count for cause, count in account.duplicates.items()},
        interrupted=account.interrupted,
        refused=load.refused,
        recovery_seconds=round(recovery_seconds, 1),
        settled_seconds=round(now - finished_at, 1),
        seconds=round(now - begun, 1),
        seed=seed if fault.is_random else None,
        note=" ".join([fault.note, *map(str, around.facts.values())]).strip(),
    )
    return cell, account


def measure_recovery(stack: FaultStack) -> float:
    """Seconds until a task that is submitted from now on has succeeded."""
    body = {"queue": QUEUE, "task": "jobs.add", "args": [2, 3]}
    begun = time.monotonic()
    with httpx.Client(base_url=stack.submit_url + API_PREFIX, timeout=2, trust_env=False) as client:

        def ask(method: str, path: str, **options: Any) -> dict[str, Any]:
            try:
                answer = client.request(method, path, **options)
                return dict(answer.json()) if answer.status_code in (200, 202) else {}
            except (httpx.HTTPError, ValueError):
                return {}

        task_id = eventually_sync(lambda: ask("POST", "/tasks", json=body).get("id"), PROBE_SECONDS, 0.05)
        left = PROBE_SECONDS - (time.monotonic() - begun)
        eventually_sync(lambda: ask("GET", f"/tasks/{task_id}").get("state") == "succeeded", left, 0.05)
    return time.monotonic() - begun
