"""`python -m benchmarks.overload`: three times the measured capacity, for five minutes unless told otherwise.

The API must refuse what it cannot take (429 or 503 with Retry-After), answer what it takes in bounded time, go on
reading, and be back to normal within seconds. Exit code 1 when a bound is missed. Only 127.0.0.1 is used.
"""

import json
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field

import httpx
import uvloop
from tests.support.stack import API_PREFIX, Stack

from benchmarks.figures import Figure, build_table, describe_machine, say, write_page
from benchmarks.load import run_load
from benchmarks.options import build_parser
from benchmarks.overload.flood import Flood, FloodResult
from benchmarks.servers import BENCH_QUEUE, bench_stack, resident_mib, run_sql, wait_published

CAPACITY_SECONDS = 10
CONNECTIONS = 64
TIMES = 3
READ_PAUSE_SECONDS = 0.2
NORMAL_ANSWERS = 10  # so many in a row under NORMAL_SECONDS: back to normal
NORMAL_SECONDS = 0.1
FLOODED = "jobs.add"  # what only the flood submits
BODY = json.dumps({"queue": BENCH_QUEUE, "task": "jobs.noop", "args": [1, 2], "kwargs": {"name": "overload"}})
FLOOD_BODY = BODY.replace("jobs.noop", FLOODED).encode()


@dataclass
class Reader:
    """Somebody who looks at a task and at the queues all the while; a context manager."""

    stack: Stack
    task_id: str
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Reader":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join(30)

    def _run(self) -> None:
        with httpx.Client(base_url=self.stack.base_url + API_PREFIX, timeout=10, trust_env=False) as client:
            while not self._stop.wait(READ_PAUSE_SECONDS):
                for path in (f"/tasks/{self.task_id}", "/queues"):
                    begun = time.perf_counter()
                    try:
                        status = client.get(path).status_code
                    except httpx.HTTPError as error:
                        self.failures.append(repr(error))
                        continue
                    self.seconds.append(time.perf_counter() - begun)
                    if status != 200:
                        self.failures.append(f"{path}: {status}")


def main() -> int:
    """Measure the capacity, flood, and see how it ends."""
    parser = build_parser("benchmarks.overload", __doc__, rounds=None)
    parser.add_argument("--minutes", type=float, default=5, help="length of the flood (default 5)")
    options = parser.parse_args()
    machine = describe_machine()
    with bench_stack() as stack:
        url = f"{stack.base_url}{API_PREFIX}/tasks"
        run_load(url, BODY, seconds=2, connections=CONNECTIONS)
        measured = run_load(url, BODY, seconds=CAPACITY_SECONDS, connections=CONNECTIONS)
        capacity = measured.accepted / measured.seconds
        say(f"capacity {capacity:,.0f} submissions/s; flooding with {TIMES * capacity:,.0f}/s")
        wait_published(stack)
        with httpx.Client(timeout=10, trust_env=False) as client:
            task_id = client.post(url, content=BODY, headers={"Content-Type": "application/json"}).json()["id"]
        memory_before = _memory(stack)
        pid = stack.api_process().pid
        with Reader(stack, task_id) as reader:
            flood = Flood(_port(url), f"{API_PREFIX}/tasks", FLOOD_BODY, TIMES * capacity, options.minutes * 60)
            result = uvloop.run(flood.run())
        recovery = _measure_recovery(url)
        memory_after = _memory(stack)
        is_alive = stack.api_process().pid == pid and stack.api_process().is_running
        wait_published(stack, 600)
        recorded = int(run_sql(stack.database_url, f"SELECT count(*) FROM tasks WHERE task = '{FLOODED}'"))
    figures = _build_figures(capacity, measured.p99_ms, result, reader, recovery, memory_after - memory_before)
    figures.append(Figure("API died", "times", [0 if is_alive else 1], at_most=0))
    # Without an answer nothing was promised, but the record may be there.
    missing = max(0, result.accepted - recorded)
    figures.append(Figure("Accepted and not recorded", "tasks", [missing], at_most=0))
    text = f"`python -m benchmarks.overload --minutes {options.minutes:g}`, {machine}\n\n{build_table(figures)}"
    print(f"\n{text}\n\nanswers: {dict(result.statuses)}; unsent {result.unsent}; {reader.failures[:3]}")
    if options.write:
        write_page("overload", text)
    return 1 if any(figure.is_met is False for figure in figures) else 0


def _build_figures(
    capacity: float, p99_ms: float, result: FloodResult, reader: Reader, recovery: float, memory_mib: float
) -> list[Figure]:
    accepted = result.accepted / result.seconds
    others = sum(result.statuses.values()) - result.accepted - result.refused
    return [
        Figure("Capacity, 64 connections", "1/s", [capacity], note=f"p99 {p99_ms:.0f} ms"),
        Figure("Asked for", "1/s", [(result.sent + result.unsent) / result.seconds], note=f"{result.seconds:.0f} s"),
        Figure("... of these sent", "1/s", [result.sent / result.seconds], note="2,000 callers wait at most"),
        Figure(
            "Accepted",
            "1/s",
            [accepted],
            at_least=capacity / 3,
            note="a third of the capacity: the flood takes cores too",
        ),
        Figure("Refused with 429 or 503", "1/s", [result.refused / result.seconds]),
        Figure("... without Retry-After", "answers", [result.without_retry_after], at_most=0),
        Figure("Other answers", "answers", [others], at_most=0),
        Figure("Connections broken", "times", [result.broken], at_most=0),
        Figure("Callers that gave up after 10 s", "times", [result.given_up], at_most=0),
        Figure("Accepted, p50", "s", [_quantile(result.accepted_seconds, 50)], digits=2),
        Figure("Accepted, p99", "s", [_quantile(result.accepted_seconds, 99)], at_most=5, digits=2),
        Figure("Refused, p99", "s", [_quantile(result.refused_seconds, 99)], at_most=5, digits=2),
        Figure("Reads, p50", "s", [_quantile(reader.seconds, 50)], digits=2),
        Figure("Reads, p99", "s", [_quantile(reader.seconds, 99)], at_most=5, digits=2),
        Figure("Reads that failed", "times", [len(reader.failures)], at_most=0),
        Figure("Back to normal after", "s", [recovery], at_most=10, digits=1, note="ten answers under 0.1 s"),
        Figure("API's memory, growth", "MiB", [memory_mib], at_most=400),
    ]


def _measure_recovery(url: str) -> float:
    """Seconds until ten submissions one after the other are each answered fast."""
    begun, fast = time.perf_counter(), 0
    with httpx.Client(timeout=10, trust_env=False) as client:
        while fast < NORMAL_ANSWERS and time.perf_counter() - begun < 120:
            asked = time.perf_counter()
            answer = client.post(url, content=BODY, headers={"Content-Type": "application/json"})
            is_fast = answer.status_code == 202 and time.perf_counter() - asked < NORMAL_SECONDS
            fast = fast + 1 if is_fast else 0
    return time.perf_counter() - begun


def _quantile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else 0.0


def _memory(stack: Stack) -> float:
    return resident_mib(stack.api_process().pid)[1]


def _port(url: str) -> int:
    return int(httpx.URL(url).port or 0)


if __name__ == "__main__":
    sys.exit(main())
