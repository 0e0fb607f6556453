"""`python -m benchmarks`: start the servers, measure everything in one run, print one table.

Exit code 1 when a figure misses its bound. `--write` puts the table into docs/benchmarks.md.
"""

import sys

from benchmarks.figures import Figure, build_table, describe_machine, say, write_page
from benchmarks.options import build_parser
from benchmarks.servers import bench_stack
from benchmarks.submissions import measure_batches, measure_single
from benchmarks.workers import measure_latency, measure_memory, measure_workers

PARTS = ("single", "batch", "worker", "latency", "memory")


def main() -> int:
    """Run the chosen parts and print the table."""
    options = build_parser("benchmarks", __doc__, parts=PARTS).parse_args()
    machine = describe_machine()
    figures = measure(options.only or PARTS, options.rounds)
    table = f"{machine}\n\n{build_table(figures)}"
    print(f"\n{table}")
    if options.write:
        write_page("measured", f"`python -m benchmarks --rounds {options.rounds}`, {table}")
    return 1 if any(figure.is_met is False for figure in figures) else 0


def measure(parts: "list[str] | tuple[str, ...]", rounds: int) -> list[Figure]:
    """All figures of one run on one set of servers."""
    figures: list[Figure] = []
    say("starting RabbitMQ 4.3, PostgreSQL, Valkey and the API")
    with bench_stack() as stack:
        if "single" in parts:
            figures += measure_single(stack, rounds)
        if "batch" in parts:
            figures += measure_batches(stack, rounds)
        if "latency" in parts:
            figures += measure_latency(stack, rounds)
        if "memory" in parts:
            figures += measure_memory(stack)
        if "worker" in parts:
            figures += measure_workers(stack, rounds)
    return figures


if __name__ == "__main__":
    sys.exit(main())
