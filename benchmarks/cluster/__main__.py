"""`python -m benchmarks.cluster`: install the chart on the cluster, measure bursts and idle queues.

Exit code 1 when a figure misses its bound. `--write` puts the tables into docs/benchmarks.md.
"""

import sys
import time

from tests.support.cluster import open_cluster, running_cluster

from benchmarks.cluster.bursts import measure_bursts
from benchmarks.cluster.idle import measure_idle
from benchmarks.figures import Figure, build_table, describe_machine, say, write_page
from benchmarks.options import build_parser

PARTS = ("burst", "idle")


def main() -> int:
    """Run the chosen parts on one installation."""
    options = build_parser("benchmarks.cluster", __doc__, parts=PARTS).parse_args()
    parts = options.only or PARTS
    say("starting the cluster and its images, if they are not there")
    open_cluster()
    machine = describe_machine()
    figures: list[Figure] = []
    began = time.monotonic()
    with running_cluster() as cluster:
        figures.append(
            Figure("helm install until all is Ready, images there", "s", [time.monotonic() - began], at_most=60)
        )
        say(f"installed and Ready after {figures[0].median:.0f} s")
        if "burst" in parts:
            figures += measure_bursts(cluster, options.rounds)
        if "idle" in parts:
            figures += measure_idle(cluster, options.rounds)
    text = f"{machine}\n\n{build_table(figures)}"
    print(f"\n{text}")
    if options.write:
        write_page("cluster", f"`python -m benchmarks.cluster --rounds {options.rounds}`, {text}")
    return 1 if any(figure.is_met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
