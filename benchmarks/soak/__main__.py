"""`python -m benchmarks.soak`: an hour at 70 % of the measured capacity with a fault every five minutes.

Memory and connections of every process must stay flat, no record may stay open, retention must bound table and stream,
and every accepted task must have run. Exit code 1 when a bound is missed. Only 127.0.0.1 is used.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.stack import QueueOptions, Stack, StackOptions
from tests.support.waiting import eventually_sync

from benchmarks.figures import Figure, build_table, describe_machine, say, write_page
from benchmarks.options import build_parser
from benchmarks.soak.loading import QUEUE, SteadyLoad, measure_capacity
from benchmarks.soak.plotting import write_plot
from benchmarks.soak.watching import Sample, Watcher

PLOT = Path(__file__).resolve().parents[2] / "docs" / "images" / "soak.svg"
SHARE = 0.7
OUTAGE_SECONDS = 3.0
SETTLE_SECONDS = 120
RETENTION_MINUTES = 2.0
WARM_SHARE = 0.3  # of the run: caches and pools fill; the growth is counted from then on
FLAT_MIB, FLAT_SHARE = 20.0, 0.15  # a process may move by the larger of both
DAY_MINUTES = 24 * 60
KEPT_MIB = 1.5 / 1024  # that Valkey holds of each task for a day: its live state and Celery's result


def kill_api(stack: Stack) -> None:
    stack.kill_api()
    time.sleep(OUTAGE_SECONDS)
    stack.start_api()


def kill_worker(stack: Stack) -> None:
    victim = stack.workers.pop(0)
    victim.process.kill()
    stack.start_worker(QUEUE)


def kill_broker(stack: Stack) -> None:
    stack.broker.kill()
    time.sleep(OUTAGE_SECONDS)
    stack.broker.start()


def kill_valkey(stack: Stack) -> None:
    stack.valkey.kill()
    time.sleep(OUTAGE_SECONDS)
    stack.valkey.start()


def kill_database(stack: Stack) -> None:
    stack.database.kill()
    time.sleep(OUTAGE_SECONDS)
    stack.database.start()


FAULTS: tuple[tuple[str, Callable[[Stack], None]], ...] = (
    ("API killed", kill_api),
    ("a worker killed", kill_worker),
    ("RabbitMQ killed", kill_broker),
    ("Valkey killed", kill_valkey),
    ("PostgreSQL killed", kill_database),
)


@contextmanager
def soak_stack() -> Iterator[Stack]:
    """Everything once, two workers; finished records are kept for minutes, so that a short run meets their end."""
    environment = {"log_level": "warning", "retention_days": str(RETENTION_MINUTES / DAY_MINUTES)}
    stack = Stack(StackOptions(environment=environment, valkey_args=("--appendfsync", "everysec")))
    try:
        stack.start()
        stack.add_queue(QUEUE, QueueOptions(concurrency=2, delivery_limit=50))
        for _ in range(2):
            stack.start_worker(QUEUE)
        yield stack
    finally:
        stack.stop()


def main() -> int:
    """Soak, look at what grew, and plot it."""
    parser = build_parser("benchmarks.soak", __doc__, rounds=None)
    parser.add_argument("--minutes", type=float, default=60, help="length of the run (default 60)")
    parser.add_argument("--fault-minutes", type=float, default=5, help="time between two faults (default 5)")
    options = parser.parse_args()
    machine = describe_machine()
    with soak_stack() as stack:
        capacity = measure_capacity(stack)
        say(f"capacity {capacity:,.0f} tasks/s through to the record; load {SHARE * capacity:,.0f}/s")
        with Watcher(stack) as watcher:
            with SteadyLoad(stack, SHARE * capacity) as load:
                faults = _strike(stack, watcher, options.minutes * 60, options.fault_minutes * 60)
            settled = _settle(watcher)
        figures = _build_figures(capacity, load, watcher.samples, settled)
    text = f"`python -m benchmarks.soak --minutes {options.minutes:g} --fault-minutes {options.fault_minutes:g}`, "
    text += f"{machine}\n\n{build_table(figures)}"
    print(f"\n{text}")
    if options.write:
        write_plot(PLOT, watcher.samples, faults)
        write_page("soak", f"{text}\n\n![Memory, sockets, records and events over the run](images/{PLOT.name})")
    return 1 if any(figure.is_met is False for figure in figures) else 0


def _strike(stack: Stack, watcher: Watcher, seconds: float, every_seconds: float) -> list[tuple[float, str]]:
    """Each fault in turn, until the time is over; the last stretch is without one."""
    struck: list[tuple[float, str]] = []
    while watcher.seconds + every_seconds < seconds:
        time.sleep(every_seconds)  # the run itself
        what, strike = FAULTS[len(struck) % len(FAULTS)]
        struck.append((watcher.seconds, what))
        say(f"{watcher.seconds / 60:5.1f} min  {what}")
        strike(stack)
    time.sleep(max(0.0, seconds - watcher.seconds))
    return struck


def _settle(watcher: Watcher) -> float:
    """Seconds until no record is open."""
    begun = time.monotonic()
    eventually_sync(lambda: watcher.look().rows.get("open records") == 0, SETTLE_SECONDS, 0.5)
    return time.monotonic() - begun


def _build_figures(capacity: float, load: SteadyLoad, samples: Sequence[Sample], settled: float) -> list[Figure]:
    seconds = samples[-1].at
    events = [sample.rows["events in the stream"] for sample in samples if "events in the stream" in sample.rows]
    kept = load.per_second * (RETENTION_MINUTES * 60 + 90)  # a round of retention comes each minute
    records = [sample.rows["records"] for sample in samples if "records" in sample.rows]
    figures = [
        Figure("Capacity, submission to record", "1/s", [capacity]),
        Figure("Accepted", "1/s", [len(load.accepted) / seconds], note=f"{len(load.accepted):,} tasks"),
        Figure("Batches refused and asked again", "times", [load.refused]),
        Figure("Accepted and never run", "tasks", [len(load.find_not_run())], at_most=0),
        Figure("Records still open after", "s", [settled], at_most=SETTLE_SECONDS),
        Figure(
            "Records open for more than 90 s, at the end", "records", [samples[-1].rows["stuck records"]], at_most=0
        ),
        Figure("Records in the table, most", "records", [max(records)], at_most=kept + 4_000, note="kept two minutes"),
        Figure("Events in the stream, at the end", "events", [events[-1]], at_most=10_000),
    ]
    for role in sorted(samples[-1].memory_mib):
        figures += build_flatness(role, samples, KEPT_MIB * len(load.accepted) if role == "Valkey" else 0)
    return figures


def build_flatness(role: str, samples: Sequence[Sample], kept_mib: float = 0) -> list[Figure]:
    """Medians of the fifth of the run after the warm-up and of its last fifth; `kept_mib` is there to stay a day."""
    there = [sample for sample in samples if role in sample.memory_mib]
    fifth = max(1, len(there) // 5)
    warm = int(len(there) * WARM_SHARE)
    early, late = there[warm : warm + fifth], there[-fifth:]
    before = statistics.median(sample.memory_mib[role] for sample in early)
    after = statistics.median(sample.memory_mib[role] for sample in late)
    sockets = [statistics.median(sample.sockets[role] for sample in part) for part in (early, late)]
    most = max(FLAT_MIB, FLAT_SHARE * before) + kept_mib
    return [
        Figure(f"{role}: growth of memory", "MiB", [after - before], at_most=most, note=f"{before:.0f} to {after:.0f}"),
        Figure(f"{role}: more sockets", "sockets", [sockets[1] - sockets[0]], at_most=4, note=f"{sockets[1]:.0f} open"),
    ]


if __name__ == "__main__":
    sys.exit(main())
