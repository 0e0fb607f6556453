"""`python -m benchmarks.listing`: pages of a table of a million tasks in PostgreSQL, by filter.

Exit code 1 when a figure misses its bound. `--write` puts the table into docs/benchmarks.md.
"""

import argparse
import asyncio
import sys
import time

from tests.support.databases import PostgreSQL
from tests.support.many_tasks import fill_tasks

from benchmarks.figures import Figure, build_table, describe_machine, say, write_page
from taskfleet_api.records import Records, open_records
from taskfleet_api.records.model import TaskFilter
from taskfleet_core.states import TaskState

PAGE = 50
DEEP = 200  # pages
FILTERS = {
    "no filter": TaskFilter(),
    "of one queue": TaskFilter(queue="queue-7"),
    "failed ones": TaskFilter(states=frozenset({TaskState.FAILED})),
    "failed ones of one queue": TaskFilter(queue="queue-0", states=frozenset({TaskState.FAILED})),
    "of one kind of task": TaskFilter(task="app.task_3"),
    "with a label": TaskFilter(labels=(("tenant", "tenant-5"),)),
    "of a kind of task that is one in ten thousand": TaskFilter(task="app.rare"),
}


async def measure(server: PostgreSQL, count: int, rounds: int) -> list[Figure]:
    """Milliseconds of the first page by filter, and of a page far behind."""
    url = server.create_database()
    records = await open_records(url, timeout_seconds=60)
    try:
        await records.migrate()
        say(f"filling {count:,} tasks")
        await asyncio.to_thread(fill_tasks, server, url, count)
        figures = []
        for name, wanted in FILTERS.items():
            await records.list_tasks(wanted, None, PAGE)
            values = [await time_page(records, wanted, None) for _ in range(rounds)]
            bound = None if "ten thousand" in name else 50.0
            figures.append(Figure(f"first page, {name}", "ms", values, at_most=bound, digits=1))
        cursor = None
        for _ in range(DEEP):
            cursor = (await records.list_tasks(TaskFilter(), cursor, PAGE)).next_cursor
        values = [await time_page(records, TaskFilter(), cursor) for _ in range(rounds)]
        return [*figures, Figure(f"page {DEEP + 1}, no filter", "ms", values, at_most=50.0, digits=1)]
    finally:
        await records.close()
        server.drop_database(url)


async def time_page(records: Records, wanted: TaskFilter, cursor: str | None) -> float:
    """Milliseconds of one page."""
    began = time.perf_counter()
    await records.list_tasks(wanted, cursor, PAGE)
    return (time.perf_counter() - began) * 1000


def main() -> int:
    """Measure and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.listing", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="tasks (default 1,000,000)")
    parser.add_argument("--rounds", type=int, default=20, help="pages of each kind (default 20)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    machine, server = describe_machine(), PostgreSQL()
    server.start()
    try:
        figures = asyncio.run(measure(server, options.count, options.rounds))
    finally:
        server.stop()
    text = f"{options.count:,} tasks; {machine}\n\n{build_table(figures)}"
    print(f"\n{text}")
    if options.write:
        write_page("listing", text)
    return 1 if any(figure.is_met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
