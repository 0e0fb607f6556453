"""The live view: what runs, how deep the queues are, who works and why. Pure: from a Fleet to something rich prints."""

import time
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from taskfleet.local.addresses import describe_address, shorten_path
from taskfleet.local.controlling import QueueController
from taskfleet.local.fleet import Fleet
from taskfleet.local.journal import Entry
from taskfleet.local.launching import FLOWER_PORT
from taskfleet.local.workers import Worker, WorkerPool
from taskfleet_core.scaling import Cause

__all__ = ["FleetView"]

MOST_DOTS = 12
FIXED_LINES = 8  # header, table header, borders and footer
LEAST_LOG_LINES = 3
UNKNOWN = Text("?", style="yellow")


class FleetView:
    """Renders the fleet as it is at each refresh."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        problems = list(self._build_problems())
        used = FIXED_LINES + len(problems) + max(1, len(self._fleet.controllers)) + 1 + bool(problems)
        lines = max(LEAST_LOG_LINES, (options.height or console.height) - used)
        parts: list[RenderableType] = [self._build_header(), Text(), self._build_queues()]
        if problems:
            parts += [Text(), *problems]
        parts += [self._build_log(lines), self._build_footer()]
        yield Group(*parts)

    # --- header -------------------------------------------------------------------------------------------------

    def _build_header(self) -> RenderableType:
        fleet = self._fleet
        grid = Table.grid(padding=(0, 3), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
        grid.add_row(
            Text.assemble(("Taskfleet ", "bold"), self._build_state()),
            Text.assemble(
                ("API ", "dim"), fleet.api_url, ("   docs ", "dim"), f"{fleet.api_url}/docs", *self._flower()
            ),
        )
        grid.add_row(
            Text(f"up {describe_duration(time.monotonic() - fleet.started_at)}", style="dim"),
            Text.assemble(
                ("broker ", "dim"),
                describe_address(fleet.launcher.broker_url),
                ("   database ", "dim"),
                describe_address(fleet.launcher.database_url),
            ),
        )
        return grid

    def _flower(self) -> list[tuple[str, str]]:
        if not self._fleet.options.flower:
            return []
        return [("   Flower ", "dim"), (f"http://127.0.0.1:{FLOWER_PORT}", "")]

    def _build_state(self) -> tuple[str, str]:
        fleet = self._fleet
        if fleet.is_draining:
            return "● stopping", "yellow"
        if any(service.problem not in (None, "starting") for service in fleet.services):
            return "● in trouble", "red"
        if fleet.ready_after_seconds is None:
            return "● starting", "yellow"
        return f"● ready in {fleet.ready_after_seconds:.1f} s", "green"

    # --- queues -------------------------------------------------------------------------------------------------

    def _build_queues(self) -> RenderableType:
        if not self._fleet.controllers:
            return Text("No queues: name a TaskQueue file with -f.", style="yellow")
        table = Table(box=None, pad_edge=False, expand=True, header_style="bold dim")
        table.add_column("QUEUE", no_wrap=True)
        for title in ("WAITING", "IN HAND"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("WORKERS", no_wrap=True)
        for title in ("BUSY", "IN/S", "RUN TIME"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("WHY", no_wrap=True, ratio=1, overflow="ellipsis")
        for name, controller in self._fleet.controllers.items():
            table.add_row(name, *_build_row(controller, stopping=self._fleet.is_draining))
        return table

    def _build_problems(self) -> Iterator[Text]:
        fleet = self._fleet
        for service in fleet.services:
            if service.problem not in (None, "starting") and not fleet.is_draining:
                yield _build_problem(service.name, f"{service.problem}")
        for name, controller in fleet.controllers.items():
            pool = controller.pool
            if pool.problem:
                pause = f" (next start in {pool.pause_seconds:.0f} s)" if pool.pause_seconds else ""
                yield _build_problem(name, f"worker died: {pool.problem}{pause}")
        for name, reason in fleet.queue_problems.items():
            yield _build_problem(name, reason)
        for line in (fleet.file_problem or "").splitlines():
            yield _build_problem("not loaded", line)

    # --- log and footer -----------------------------------------------------------------------------------------

    def _build_log(self, lines: int) -> RenderableType:
        entries = list(self._fleet.journal.entries)[-lines:]
        body = Text("\n", no_wrap=True, overflow="ellipsis").join(build_entry(entry) for entry in entries)
        body.no_wrap, body.overflow = True, "ellipsis"
        return Panel(body, title="events", title_align="left", border_style="dim", height=lines + 2, padding=(0, 1))

    def _build_footer(self) -> RenderableType:
        logs = shorten_path(self._fleet.folders.logs)
        if not self._fleet.is_draining:
            return Text(f"Ctrl-C lets running tasks finish and stops. Logs of workers and API: {logs}", style="dim")
        left = sum(worker.in_hand for c in self._fleet.controllers.values() for worker in c.pool.workers)
        workers = sum(len(c.pool.workers) for c in self._fleet.controllers.values())
        return Text(
            f"Stopping: {workers} workers left with {left} running tasks. Ctrl-C again stops at once; what runs then "
            "runs again at the next start.",
            style="yellow",
        )


def _build_problem(subject: str, reason: str) -> Text:
    return Text.assemble(("▲ ", "red"), (subject, "bold"), f"  {reason}", no_wrap=True, overflow="ellipsis")


def _build_row(controller: QueueController, *, stopping: bool) -> list[RenderableType]:
    statistics, decision, beats = controller.statistics, controller.decision, controller.beats
    slots = sum(beat["slots"] for beat in beats.values()) if beats is not None else None
    busy = sum(beat["busy"] for beat in beats.values()) if beats is not None else None
    in_hand = busy if statistics is None or statistics.unacknowledged is None else statistics.unacknowledged
    terms = decision.terms if decision else None
    return [
        _number(statistics.ready if statistics else None),
        _number(in_hand if statistics else None),
        _build_workers(controller, stopping=stopping),
        _number(None) if busy is None else Text(f"{busy}/{slots}"),
        Text(f"{terms.arrivals_per_second:.1f}" if terms else "-"),
        Text(describe_seconds(terms.run_seconds) if terms and controller.completions.count else "-"),
        Text("stopping", style="yellow") if stopping else _build_reason(controller),
    ]


def _number(value: int | None) -> Text:
    return UNKNOWN if value is None else Text(f"{value:,}", style="bold" if value else "dim")


def _build_workers(controller: QueueController, *, stopping: bool) -> Text:
    """A dot for each worker (busy, idle, starting, leaving), and ready of wanted."""
    pool = controller.pool
    wanted = controller.decision.replicas if controller.decision and controller.scales else len(pool.staying)
    text = Text(f"{len(pool.ready)}/{0 if stopping else wanted} ")
    if len(pool.workers) <= MOST_DOTS:
        for worker in pool.workers:
            text.append(*_build_dot(worker))
    elif pool.draining:
        text.append(f"-{len(pool.draining)}", style="yellow")
    return text


def _build_dot(worker: Worker) -> tuple[str, str]:
    if worker.is_draining:
        return "◍", "yellow"
    if worker.ready_at is None:
        return "◌", "dim"
    return ("●", "green") if worker.busy else ("○", "green")


def _build_reason(controller: QueueController) -> Text:
    pool: WorkerPool = controller.pool
    if controller.leaving:
        return Text("its file is gone: leaving", style="yellow")
    if controller.decision is None:
        return Text("-", style="dim")
    mode = "" if controller.scales else f"[{controller.queue.spec.scaling.mode}] "
    waiting = f"workers die, next start in {pool.pause_seconds:.0f} s; " if pool.pause_seconds else ""
    style = {Cause.UNKNOWN: "yellow", Cause.IDLE: "dim", Cause.MAXIMUM: "yellow"}.get(controller.decision.cause, "")
    return Text(f"{mode}{waiting}{controller.decision.reason}", style=style)


def build_entry(entry: Entry) -> Text:
    """One line of the journal."""
    fields = dict(entry.fields)
    subject = fields.pop("queue", fields.pop("service", ""))
    words = "  ".join(f"{name} {value}" for name, value in fields.items() if value not in (None, "", 0.0))
    return Text.assemble(
        (time.strftime("%H:%M:%S  ", time.localtime(entry.at)), "dim"),
        (f"{subject}  " if subject else "", "bold"),
        (entry.event.replace("_", " "), "yellow" if entry.level == "warning" else ""),
        (f"  {words}", "dim"),
    )


def describe_seconds(seconds: float) -> str:
    """A short time in a fitting unit."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else describe_duration(seconds)


def describe_duration(seconds: float) -> str:
    """A longer time, such as 1h05m."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
