"""Rules of periodic tasks: when a cron or interval schedule ticks, and which missed ticks run. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import dropwhile, islice, takewhile
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from taskfleet_api.records.model import RetryPolicy
from taskfleet_core.errors import FieldError

__all__ = [
    "CatchUp",
    "ScheduleRule",
    "ScheduleSpec",
    "TickPlan",
    "build_spec_json",
    "compute_next_tick",
    "parse_spec",
    "plan_ticks",
    "validate_rule",
]

CatchUp = Literal["skip", "last", "all"]

MIN_INTERVAL_SECONDS = 1.0
MAX_INTERVAL_SECONDS = 366 * 86_400.0
CRON_FIELDS = (5, 6)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleRule:
    """Either `cron` (five fields, or six with seconds first, in `time_zone`) or `interval_seconds` from `anchor`.

    Cron follows the wall clock as Debian's cron does: a time that the change to summer time skips fires right after
    the gap, one that occurs twice fires once; hourly and more frequent jobs just go on. Intervals ignore clocks.
    """

    cron: str | None
    interval_seconds: float | None
    time_zone: str = "UTC"
    catch_up: CatchUp = "last"
    anchor: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleSpec:
    """The whole definition of a schedule: its rule and the task that each tick submits. JSON fields are raw text."""

    rule: ScheduleRule
    args_json: str = "[]"
    kwargs_json: str = "{}"
    metadata_json: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    priority: int | None = None
    retry: RetryPolicy | None = None
    timeout_seconds: float | None = None
    ttl_seconds: float | None = None
    callback_url: str | None = None
    principal: str = ""


@dataclass(frozen=True, slots=True)
class TickPlan:
    """What to do about a due schedule: submit `ticks` in order, forget `skipped` ones, go on at `next_at`."""

    ticks: tuple[datetime, ...]
    skipped: bool
    next_at: datetime | None


def build_spec_json(spec: ScheduleSpec) -> str:
    """The text that a ScheduleRecord keeps."""
    fields = asdict(spec)
    fields["rule"]["anchor"] = spec.rule.anchor.isoformat()
    if spec.callback_url is None:
        del fields["callback_url"]  # releases that do not know it go on with all other schedules
    return json.dumps(fields, separators=(",", ":"))


def parse_spec(text: str) -> ScheduleSpec:
    """The inverse of `build_spec_json`. Raises ValueError or TypeError for what no release ever wrote."""
    fields = json.loads(text)
    rule = fields.pop("rule")
    rule["anchor"] = datetime.fromisoformat(rule["anchor"])
    fields["labels"] = tuple((key, value) for key, value in fields.get("labels", ()))
    retry = fields.pop("retry", None)
    return ScheduleSpec(rule=ScheduleRule(**rule), retry=RetryPolicy(**retry) if retry else None, **fields)


def compute_next_tick(rule: ScheduleRule, after: datetime) -> datetime | None:
    """The first tick later than `after` in UTC; None when a cron expression never fires again."""
    after = after.astimezone(UTC)
    if rule.cron is None:
        interval = timedelta(seconds=rule.interval_seconds or MIN_INTERVAL_SECONDS)
        count = max(0, (after - rule.anchor) // interval)
        tick = rule.anchor + count * interval
        while tick <= after:
            tick += interval
        return tick.astimezone(UTC)
    # In the hour that occurs twice the simulation starts with ticks of its first pass.
    return next((tick for tick in _iterate_cron(rule, after) if tick > after), None)


def plan_ticks(
    rule: ScheduleRule, due_at: datetime, now: datetime, *, late_seconds: float = 60.0, limit: int = 1_000
) -> TickPlan:
    """Which of the ticks from `due_at` to `now` run.

    `all`: each of them, at most the newest `limit`. `last`: the newest one, however late. `skip`: only what is at most
    `late_seconds` late, a normal delay of the ticker itself.
    """
    missed = _ticks_back(rule, due_at, now, limit + 1 if rule.catch_up == "all" else 1)
    skipped = bool(missed) and missed[0] > due_at
    if rule.catch_up == "all" and len(missed) > limit:
        missed, skipped = missed[1:], True
    if rule.catch_up == "skip":
        on_time = [tick for tick in missed if (now - tick).total_seconds() <= late_seconds]
        skipped = skipped or len(on_time) < len(missed)
        missed = on_time
    return TickPlan(tuple(missed), skipped, compute_next_tick(rule, now))


def validate_rule(fields: Mapping[str, Any]) -> tuple[FieldError, ...]:
    """Check `cron`, `interval_seconds`, `time_zone` and `catch_up`; empty = valid, otherwise field pointers."""
    errors = []
    cron, interval = fields.get("cron"), fields.get("interval_seconds")
    if (cron is None) == (interval is None):
        errors.append(FieldError("#/cron", "Give either cron or interval_seconds."))
    if cron is not None and (problem := _cron_problem(cron)):
        errors.append(FieldError("#/cron", problem))
    if interval is not None and not _is_interval(interval):
        allowed = f"between {MIN_INTERVAL_SECONDS:g} and {MAX_INTERVAL_SECONDS:g}"
        errors.append(FieldError("#/interval_seconds", f"Give a number of seconds {allowed}."))
    if not _is_time_zone(fields.get("time_zone") or "UTC"):
        errors.append(FieldError("#/time_zone", "Give a name of the IANA time zone database, such as Europe/Berlin."))
    if (fields.get("catch_up") or "last") not in get_args(CatchUp):
        errors.append(FieldError("#/catch_up", "Give skip, last or all."))
    return tuple(errors)


def _iterate_cron(rule: ScheduleRule, start: datetime, *, reverse: bool = False) -> Iterator[datetime]:
    ticks = CronSim(rule.cron or "", start.astimezone(ZoneInfo(rule.time_zone)), reverse=reverse)
    return (tick.astimezone(UTC) for tick in ticks)


def _ticks_back(rule: ScheduleRule, due_at: datetime, now: datetime, count: int) -> list[datetime]:
    """The newest `count` ticks in [due_at, now], oldest first; looks back from now, so a long absence costs nothing."""
    if now < due_at:
        return []
    if rule.cron is None:
        interval = timedelta(seconds=rule.interval_seconds or MIN_INTERVAL_SECONDS)
        newest = rule.anchor + (now - rule.anchor) // interval * interval
        wanted = [newest - index * interval for index in range(count)]
        ticks = [tick for tick in wanted if tick >= due_at]
    else:
        # Start above now: reverse iteration begins below its start, and in the hour that occurs twice an hour lower.
        lead = timedelta(hours=2) if len(rule.cron.split()) == min(CRON_FIELDS) else timedelta(seconds=1)
        start = (now + lead).replace(microsecond=0)
        backwards = dropwhile(lambda tick: tick > now, _iterate_cron(rule, start, reverse=True))
        ticks = list(takewhile(lambda tick: tick >= due_at, islice(backwards, count)))
    return ticks[::-1] or [due_at]


def _cron_problem(cron: object) -> str | None:
    if not isinstance(cron, str) or len(cron.split()) not in CRON_FIELDS:
        return "Give five fields: minute, hour, day of month, month, day of week; a sixth in front means seconds."
    try:
        first = next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        return f"{error}."
    return None if first else "This never fires."


def _is_interval(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and MIN_INTERVAL_SECONDS <= value <= MAX_INTERVAL_SECONDS
    )


def _is_time_zone(name: object) -> bool:
    if not isinstance(name, str):
        return False
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
