"""`python -m benchmarks.keda`: KEDA, built from its Go module, and Taskfleet on one cluster, with the same load.

Every round is kept as a line of the results file; the tables are made of all lines in it. Exit code 1 when a median of
Taskfleet misses its bound. `--write` puts the tables into docs/benchmarks.md.
"""

import contextlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.cluster import open_cluster, running_cluster

from benchmarks.figures import describe_machine, say, write_page
from benchmarks.keda.building import VERSION
from benchmarks.keda.cases import CASES, run_case
from benchmarks.keda.installing import running_keda
from benchmarks.keda.loads import Servers
from benchmarks.keda.peers import PEERS, Peer, build_peers
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
        peers: list[tuple[Setting, Peer]] = []
        for side in [side for side in PEERS if side in sides]:
            servers = Servers(cluster)
            stack.callback(servers.close)
            peers += [(Setting(cluster, servers, rounds), peer) for peer in build_peers(cluster, servers, [side])]
        for setting, peer in [pair for pair in peers if pair[1].name != "taskfleet"][:1]:
            say("a first burst for KEDA, not counted: its adapter finds its operator")
            run_case(setting, "burst", peer, 0)
        for case in cases:
            for number in range(1, rounds + 1):
                for group in find_turns(case, peers):
                    with ThreadPoolExecutor(len(group)) as threads:
                        for done in threads.map(lambda pair: run_round(case, pair[0], pair[1], number), group):  # noqa: B023
                            append_round(results, done)


def find_turns(case: str, peers: list[tuple[Setting, Peer]]) -> list[list[tuple[Setting, Peer]]]:
    """The sides in turn. In the scale-in, where nothing waits for the processor, KEDA's settings share their turn."""
    if case != "scale-in":
        return [[pair] for pair in peers]
    own = [pair for pair in peers if pair[1].name == "taskfleet"]
    others = [pair for pair in peers if pair[1].name != "taskfleet"]
    return [group for group in (own, others) if group]


def run_round(case: str, setting: Setting, peer: Peer, number: int) -> Round:
    """One round with the load average before it."""
    load = os.getloadavg()[0]
    return Round(case, peer.name, peer.title, number, load, run_case(setting, case, peer, number))


if __name__ == "__main__":
    sys.exit(main())
