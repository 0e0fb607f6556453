"""simulate: what a TaskQueue's scaling would have done with the tasks of a file."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskfleet.commands.parameters import Output, OutputOption
from taskfleet.errors import InvalidInputError
from taskfleet.exit_codes import ExitCode
from taskfleet.output import error_console, print_json, print_rows

if TYPE_CHECKING:
    from taskfleet_core.taskqueue import TaskQueue

__all__ = ["register"]

COLUMNS = ["RULE", "P50", "P95", "P99", "LATE", "POD-SECONDS", "PEAK", "STARTED", "KILLED", "UNFINISHED"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate)


def simulate(
    trace: Annotated[
        Path, typer.Argument(help="CSV of timestamp[,run seconds], or Prometheus' answer to a range query of a rate.")
    ],
    file: Annotated[Path, typer.Option("--file", "-f", help="TaskQueue file: its scaling and its slots.")],
    queue: Annotated[
        str | None, typer.Option("--queue", help="Which TaskQueue, if the file has several.", show_default=False)
    ] = None,
    run_seconds: Annotated[
        float | None,
        typer.Option("--run-seconds", min=0, help="Run time of tasks that have none in the file.", show_default=False),
    ] = None,
    startup_seconds: Annotated[
        float, typer.Option("--startup-seconds", min=0.01, help="From asking for a pod until it takes tasks, median.")
    ] = 4.0,
    fixed: Annotated[
        int | None,
        typer.Option("--fixed", min=1, help="Size of the fixed pool; default: the smallest with 1 % late at most."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write waits and replicas as SVG.", show_default=False)
    ] = None,
    output: OutputOption = Output.TABLE,
) -> int:
    """Replay arrivals: what tasks would have waited and pods cost, with this TaskQueue, with KEDA, with a fixed pool.

    Times are seconds. LATE is the share of tasks that waited longer than targetWaitSeconds.
    """
    from taskfleet.simulating.comparing import compare
    from taskfleet.simulating.plotting import build_plot
    from taskfleet.simulating.reading import read_trace
    from taskfleet_core.taskqueue import load_task_queues

    chosen = _choose(load_task_queues(file), file, queue)
    recorded = read_trace(trace, run_seconds)
    outcomes = compare(recorded, chosen, startup_seconds=startup_seconds, fixed=fixed)
    if plot:
        text = build_plot(recorded.trace, outcomes, chosen.spec.scaling.target_wait_seconds)
        try:
            plot.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InvalidInputError(f"{plot}: cannot be written: {error}") from error
        error_console().print(f"plot: {plot}", markup=False)
    if output is Output.JSON:
        print_json([{"rule": outcome.rule, **asdict(outcome.summary)} for outcome in outcomes])
    else:
        print_rows(COLUMNS, (_row(outcome.rule, outcome.summary) for outcome in outcomes), empty="")
    return ExitCode.OK


def _choose(queues: "list[TaskQueue]", file: Path, name: str | None) -> "TaskQueue":
    names = ", ".join(queue.name for queue in queues)
    fitting = [queue for queue in queues if name is None or name in {queue.name, queue.queue_name}]
    if len(fitting) == 1:
        return fitting[0]
    if not queues:
        raise InvalidInputError(f"{file}: holds no TaskQueue")
    if name is None:
        raise InvalidInputError(f"{file}: holds several TaskQueues: choose one with --queue: {names}")
    raise InvalidInputError(f"{file}: no TaskQueue is named {name!r}: it holds {names}")


def _row(rule: str, summary: Any) -> list[str]:
    return [
        rule,
        f"{summary.wait_p50_seconds:.1f}",
        f"{summary.wait_p95_seconds:.1f}",
        f"{summary.wait_p99_seconds:.1f}",
        f"{100 * summary.late_share:.1f} %",
        f"{summary.pod_seconds:,.0f}",
        f"{summary.peak_pods:.0f}",
        f"{summary.started_pods:.0f}",
        f"{summary.killed_runs:.0f}",
        f"{summary.unfinished_tasks:.0f}",
    ]
