"""`python -m benchmarks.keda`: KEDA, built from its Go module, and Taskfleet on one cluster, with the same load.

Every round is kept as a line of the results file; the tables are made of all lines in it. Exit code 1 when a median of
Taskfleet misses its bound. `--write` puts the tables into docs/benchmarks.md.
"""

import contextlib
import os
import sys
from pathlib import Path

from tests.support.cluster import open_cluster, running_cluster

from benchmarks.figures import describe_machine, say, write_page
from benchmarks.keda.building import VERSION
from benchmarks.keda.cases import CASES, run_case
from benchmarks.keda.installing import running_keda
from benchmarks.keda.loads import Servers
from benchmarks.keda.peers import PEERS, build_peers
from benchmarks.keda.setting import Setting
from benchmarks.keda.tables import Round, append_round, build_tables, find_misses, read_rounds
from benchmarks.options import build_parser

RESULTS = Path(__file__).parent / "results.jsonl"


def main() -> int:
    """Run the chosen cases for the chosen sides and print the tables."""
    parser = build_parser("benchmarks.keda", __doc__, parts=tuple(CASES))
    parser.add_argument("--peer", choices=PEERS, action="append", help="only this side; may be repeated")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of rounds (default: beside the program)")
    parser.add_argument("--append", action="store_true", help="add to the rounds in the file")
    options = parser.parse_args()
    if not options.append:
        options.results.unlink(missing_ok=True)
    measure(options.only or list(CASES), options.peer or list(PEERS), options.rounds, options.results)
    rounds = read_rounds(options.results)
    text = f"KEDA {VERSION}; {describe_machine()}\n\n{build_tables(rounds)}"
    print(f"\n{text}")
    if options.write:
        write_page("keda", text)
    missed = find_misses(rounds)
    for name in missed:
        say(f"bound missed: {name}")
    return 1 if missed else 0


def measure(cases: list[str], sides: list[str], rounds: int, results: Path) -> None:
    """All rounds on one installation, the sides in turn within each round."""
    say("starting the cluster and its images, if they are not there")
    environment = open_cluster()
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(running_cluster())
        if any(side != "taskfleet" for side in sides):
            stack.enter_context(running_keda(environment))
        servers = Servers(cluster)
        stack.callback(servers.close)
        setting = Setting(cluster, servers, rounds)
        peers = build_peers(cluster, servers, sides)
        for peer in [peer for peer in peers if peer.name != "taskfleet"][:1]:
            say("a first burst for KEDA, not counted: its adapter finds its operator")
            run_case(setting, "burst", peer, 0)
        for case in cases:
            for number in range(1, rounds + 1):
                for peer in peers:
                    load = os.getloadavg()[0]
                    values = run_case(setting, case, peer, number)
                    append_round(results, Round(case, peer.name, peer.title, number, load, values))


if __name__ == "__main__":
    sys.exit(main())
