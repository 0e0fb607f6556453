"""Background services of each API replica: dispatcher, recorder, sweeper, schedules, retention and their supervision.

Entry points: `Background` composes and supervises them, `Dispatcher.offer` takes committed tasks, `QueueDirectory`
answers which queues and tasks exist, `QueueMonitor` what the broker and the workers say about them.
"""

from taskfleet_api.background.directory import KnownQueue, QueueDirectory
from taskfleet_api.background.dispatcher import Dispatcher
from taskfleet_api.background.monitor import QueueMonitor, QueueStatus
from taskfleet_api.background.options import BackgroundOptions, options_from
from taskfleet_api.background.schedules import (
    ScheduleRule,
    ScheduleSpec,
    build_spec_json,
    compute_next_tick,
    parse_spec,
    validate_rule,
)
from taskfleet_api.background.services import Background
from taskfleet_api.background.supervision import LoopHealth

__all__ = [
    "Background",
    "BackgroundOptions",
    "Dispatcher",
    "KnownQueue",
    "LoopHealth",
    "QueueDirectory",
    "QueueMonitor",
    "QueueStatus",
    "ScheduleRule",
    "ScheduleSpec",
    "build_spec_json",
    "compute_next_tick",
    "options_from",
    "parse_spec",
    "validate_rule",
]
