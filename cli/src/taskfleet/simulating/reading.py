"""Traces from files: a CSV of arrivals, or the answer of Prometheus to a range query of an arrival rate."""

import csv
import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from taskfleet.errors import InvalidInputError
from taskfleet_core.simulation import Trace

__all__ = ["RecordedTrace", "read_trace"]

MAX_TASKS = 2_000_000  # some minutes of simulation and a gigabyte of memory
HEADERS = frozenset({"timestamp", "time", "at", "arrival", "arrived"})
EARLIEST_EPOCH = 1e8  # smaller numbers are seconds from any beginning, not times of a calendar
SEED = 1


@dataclass(frozen=True, slots=True)
class RecordedTrace:
    """A trace, and the moment of its second 0 where the file names one."""

    trace: Trace
    begin: datetime | None


def read_trace(path: Path, run_seconds: float | None) -> RecordedTrace:
    """The tasks of a file. `run_seconds` is for tasks that the file gives no run time.

    Raises InvalidInputError that names the line and what to write there.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read as text: {error}") from error
    tasks = list(_read_prometheus(path, text) if text.lstrip().startswith("{") else _read_csv(path, text))
    if not tasks:
        raise InvalidInputError(f"{path}: holds no task: write one line per task, timestamp[,run seconds]")
    if len(tasks) > MAX_TASKS:
        raise InvalidInputError(f"{path}: {len(tasks):,} tasks are more than {MAX_TASKS:,}: cut the file")
    return _build_trace(path, tasks, run_seconds)


def _build_trace(path: Path, tasks: list[tuple[float, float | None]], run_seconds: float | None) -> RecordedTrace:
    if run_seconds is None and any(seconds is None for _, seconds in tasks):
        fix = "give a second column, or --run-seconds with the mean"
        raise InvalidInputError(f"{path}: how long tasks run is not known: {fix}")
    tasks.sort(key=lambda task: task[0])
    first = tasks[0][0]
    given = [run_seconds if seconds is None else seconds for _, seconds in tasks]
    arrivals = [at - first for at, _ in tasks]
    trace = Trace(path.stem, arrivals, [seconds or 0.0 for seconds in given], horizon=arrivals[-1])
    begin = datetime.fromtimestamp(first, UTC) if first >= EARLIEST_EPOCH else None
    return RecordedTrace(trace, begin)


def _read_csv(path: Path, text: str) -> Iterator[tuple[float, float | None]]:
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#") or (number == 1 and cells[0].lower() in HEADERS):
            continue
        if len(cells) > 2:
            fault = f"{len(cells)} columns: write timestamp[,run seconds]"
            raise InvalidInputError(f"{path}:{number}: {fault}")
        at = _parse_moment(cells[0])
        if at is None:
            fix = "write seconds or ISO 8601, such as 12.5 or 2026-01-31T12:00:00Z"
            raise InvalidInputError(f"{path}:{number}: {cells[0]!r} is no time: {fix}")
        yield at, _parse_seconds(path, number, cells[1]) if len(cells) == 2 and cells[1] else None


def _parse_moment(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return seconds if math.isfinite(seconds) else None


def _parse_seconds(path: Path, number: int, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidInputError(f"{path}:{number}: {text!r} is no run time: write seconds, such as 0.25")
    return seconds


def _read_prometheus(path: Path, text: str) -> Iterator[tuple[float, None]]:
    """Arrivals drawn by chance (the same each time) from tasks per second; several series are added."""
    rates = sorted(_sum_series(path, text).items())
    steps = [later[0] - earlier[0] for earlier, later in pairwise(rates)]
    if not steps:
        raise InvalidInputError(f"{path}: one sample is no range: query with a start, an end and a step")
    chance = random.Random(SEED)
    expected = sum(rate * step for (_, rate), step in zip(rates, steps, strict=False))
    if expected > MAX_TASKS:
        raise InvalidInputError(f"{path}: about {expected:,.0f} tasks are more than {MAX_TASKS:,}: query less")
    for (at, rate), step in zip(rates, steps, strict=False):
        moment = at
        while rate > 0:
            moment += chance.expovariate(rate)
            if moment >= at + step:
                break
            yield moment, None


def _sum_series(path: Path, text: str) -> dict[float, float]:
    fix = "save the answer of /api/v1/query_range for tasks per second, such as rate(taskfleet_queue_published[1m])"
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"{path}: is no JSON: {error}: {fix}") from error
    data: Any = document.get("data")
    if not isinstance(data, dict) or data.get("resultType") != "matrix":
        raise InvalidInputError(f"{path}: is no answer with data.resultType matrix: {fix}")
    rates: dict[float, float] = {}
    try:
        for series in data["result"]:
            for at, value in series["values"]:
                rate = float(value)
                if math.isfinite(rate):
                    rates[float(at)] = rates.get(float(at), 0.0) + max(0.0, rate)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{path}: has a series without [time, value] pairs: {fix}") from error
    if not rates:
        raise InvalidInputError(f"{path}: holds no sample: {fix}")
    return rates
