"""`python -m benchmarks.scaling`: every rule on every trace, in simulation.

Exit code 1 when ours misses a bound. `--write` puts the tables into docs/scaling.md.
"""

import sys
from pathlib import Path

from benchmarks.figures import write_page
from benchmarks.options import build_parser
from benchmarks.scaling.measuring import BEST_KEDA, FIXED, FLOOR, OURS, RULES, World, measure
from benchmarks.scaling.tables import build_bound_table, build_rule_table, build_trace_table, find_faults
from benchmarks.scaling.traces import NEED_A_WARM_MINIMUM, load_cases, load_unseen_cases

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scaling.md"
WORLDS = {
    "warm": World(),
    "cold": World(startup="cold"),
    "node": World(startup="node"),
    "stale": World(statistics_seconds=5.0),
}
ALL_RULES = (FIXED, "KEDA, documented defaults", BEST_KEDA, *list(RULES)[1:])


def main() -> int:
    """Run the chosen tables and print them."""
    tables = [*WORLDS, "unseen"]
    parser = build_parser("benchmarks.scaling", __doc__, parts=tables, rounds=None, page="docs/scaling.md")
    parser.add_argument("--rule", choices=[*ALL_RULES], action="append", help="only this rule; may be repeated")
    parser.add_argument("--trace", action="append", help="only this trace; may be repeated")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    faults = []
    for name in options.only or tables:
        cases = load_unseen_cases() if name == "unseen" else load_cases()
        cases = [case for case in cases if not options.trace or case.name in options.trace]
        world = WORLDS.get(name, World())
        rows = measure(cases, world, options.rule or ALL_RULES, options.processes)
        sections = {name: build_rule_table(rows)}
        if name in ("warm", "unseen"):
            sections[f"{name} by trace"] = build_trace_table([row for row in rows if row.rule == OURS], cases)
        if name == "warm":
            late = [case for case in cases if case.name in NEED_A_WARM_MINIMUM]
            sections["bound"] = build_bound_table(rows, measure(late, world, [FLOOR], options.processes))
        faults += find_faults(name, rows)
        for section, table in sections.items():
            print(f"\n{section}\n\n{table}", flush=True)
            if options.write:
                write_page(section, table, PAGE)
    for fault in faults:
        print(f"missed: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
