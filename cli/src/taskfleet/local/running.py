"""`taskfleet up`: checks, the lock on the data folder, orphans of a killed run, signals and the view."""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import IO

from rich.live import Live

from taskfleet.exit_codes import ExitCode
from taskfleet.local.files import LoadedQueue
from taskfleet.local.fleet import Fleet
from taskfleet.local.journal import Journal
from taskfleet.local.launching import FLOWER_PORT
from taskfleet.local.options import Folders, UpOptions
from taskfleet.local.orphans import find_orphans, stop_orphans
from taskfleet.local.ports import check_port
from taskfleet.local.references import apply_reference_settings, load_option_queues
from taskfleet.local.view import FleetView
from taskfleet.output import SafeConsole
from taskfleet_core.errors import ConflictError

__all__ = ["run_up"]

REFRESH_SECONDS = 0.5
ORPHAN_SECONDS = 10.0
STOP_ORDER = ("worker", "flower", "api", "valkey")  # the store last: the others still write to it


def run_up(options: UpOptions) -> int:
    """Run until stopped; the exit code. Raises TaskfleetError for what forbids a start."""
    options = apply_reference_settings(options)
    options.check()
    queues = load_option_queues(options)
    options = replace(options, data=options.data.resolve(), live_view=options.live_view and sys.stdout.isatty())
    folders = Folders(options.data)
    folders.ensure()
    with _hold_lock(folders):
        journal = Journal(plain=not options.live_view)
        return asyncio.run(_run(options, folders, queues, journal))


@contextlib.contextmanager
def _hold_lock(folders: Folders) -> Iterator[None]:
    """The kernel frees the lock however the process ends; children do not inherit it."""
    file: IO[str] = folders.lock.open("a+")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "?"
            raise ConflictError(
                f"{folders.root} is used by another taskfleet up (process {holder}): stop that, or name another folder "
                "with --data"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


async def _run(options: UpOptions, folders: Folders, queues: list[LoadedQueue], journal: Journal) -> int:
    orphans = find_orphans(folders.root)
    if orphans:
        journal.warning(
            "orphans_found", processes=len(orphans), detail="an earlier run was killed: stopping what it left"
        )
        await stop_orphans(orphans, STOP_ORDER, ORPHAN_SECONDS)
    check_port(options.host, options.port, "--port")
    if options.flower:
        check_port("127.0.0.1", FLOWER_PORT, "another start without --flower")
    stopping, hurry = asyncio.Event(), asyncio.Event()
    _catch_signals(stopping, hurry)
    fleet = Fleet(options, folders, queues, journal)
    async with _show(fleet):
        try:
            await fleet.start()
            await stopping.wait()
            journal.info("stopping", detail="running tasks finish; Ctrl-C again stops at once")
            await fleet.drain(hurry)
        finally:
            await fleet.stop(hurry=hurry.is_set())
            journal.info("stopped")
    return ExitCode.OK


def _catch_signals(stopping: asyncio.Event, hurry: asyncio.Event) -> None:
    """The first signal drains, the second one hurries."""

    def on_signal() -> None:
        if stopping.is_set():
            hurry.set()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)


@contextlib.asynccontextmanager
async def _show(fleet: Fleet) -> AsyncIterator[None]:
    """The live view while the block runs; without a terminal the journal's lines are all there is."""
    if not fleet.options.live_view:
        yield
        return
    console = SafeConsole()
    with Live(FleetView(fleet), console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:

        async def refresh() -> None:
            while True:
                live.refresh()
                await asyncio.sleep(REFRESH_SECONDS)

        refreshing = asyncio.create_task(refresh())
        try:
            yield
        finally:
            refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await refreshing
    console.print("Stopped. Nothing accepted is lost: the next start goes on.", style="dim")
