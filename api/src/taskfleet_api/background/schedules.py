"""Rules of periodic tasks: when a cron or interval schedule ticks, and which missed ticks run. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from taskfleet_core.errors import FieldError

__all__ = ["CatchUp", "ScheduleRule", "compute_next_tick", "validate_rule"]

CatchUp = Literal["skip", "last", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleRule:
    """Either `cron` (five or six fields, in `time_zone`) or `interval_seconds` counted from `anchor`."""

    cron: str | None
    interval_seconds: float | None
    time_zone: str = "UTC"
    catch_up: CatchUp = "last"
    anchor: datetime


def compute_next_tick(rule: ScheduleRule, after: datetime) -> datetime | None:
    """The first tick later than `after` in UTC; None when a cron expression never fires again."""
    raise NotImplementedError


def validate_rule(fields: Mapping[str, Any]) -> tuple[FieldError, ...]:
    """Check `cron`, `interval_seconds`, `time_zone` and `catch_up`; empty = valid, otherwise field pointers."""
    raise NotImplementedError
