"""`python -m benchmarks.kills`: 2,000 accepted tasks for each kill -9, accounted one by one.

Exit code 1 when a task is lost or a duplicate run has no cause.
"""

import sys
import time

from tests.support.kills import SCENARIOS, kill_stack
from tests.support.ledger import Account, Cause

from benchmarks.figures import describe_machine, say, write_page
from benchmarks.options import build_parser

TASKS = 2_000
SETTLE_SECONDS = 180
HEAD = (
    "| Kill | Accepted | Lost | Final states | Duplicate runs and their causes | Refused | Seconds |\n"
    "|---|--:|--:|---|---|--:|--:|"
)


def main() -> int:
    """Run every scenario on one stack and print one table."""
    parser = build_parser("benchmarks.kills", __doc__, rounds=None)
    parser.add_argument("--tasks", type=int, default=TASKS, help=f"accepted tasks per kill (default {TASKS})")
    options = parser.parse_args()
    machine = describe_machine()
    rows, failed = [], False
    with kill_stack() as stack:
        for scenario in SCENARIOS:
            begun = time.monotonic()
            load = scenario.run(stack, options.tasks)
            account = load.settle(SETTLE_SECONDS)
            seconds = time.monotonic() - begun
            say(f"{scenario.name}: {account} ({seconds:.0f} s, {load.refused} submissions refused)")
            rows.append(_row(scenario.name, account, load.refused, seconds))
            failed = failed or bool(account.lost or account.untold or account.duplicates.get(Cause.UNEXPLAINED))
    table = "\n".join([HEAD, *rows])
    print(f"\n{machine}\n\n{table}")
    if options.write:
        write_page("kills", f"`python -m benchmarks.kills --tasks {options.tasks}`, {machine}\n\n{table}")
    return 1 if failed else 0


def _row(name: str, account: Account, refused: int, seconds: float) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sorted(account.states.items()))
    causes = "; ".join(f"{count} {cause.value}" for cause, count in account.duplicates.items()) or "none"
    lost = len(account.lost) + len(account.untold)
    return f"| {name} | {account.accepted:,} | {lost} | {states} | {causes} | {refused} | {seconds:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
