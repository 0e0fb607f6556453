"""How many workers a queue needs. Pure: no clock, no client, no logger; the same for operator, local mode, simulator.

`model` says what goes in and out, `learning` turns observations into rates and run times, `rule` decides.
"""

from taskfleet_core.scaling.model import Cause, Decision, Memory, Observation, Pace, ScalingSpec, Terms
from taskfleet_core.scaling.reports import DecisionReport, build_report, describe_report
from taskfleet_core.scaling.rule import decide

__all__ = [
    "Cause",
    "Decision",
    "DecisionReport",
    "Memory",
    "Observation",
    "Pace",
    "ScalingSpec",
    "Terms",
    "build_report",
    "decide",
    "describe_report",
]
