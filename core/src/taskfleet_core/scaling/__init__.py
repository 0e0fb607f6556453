"""How many workers a queue needs. Pure: no clock, no client, no logger; the same for operator, local mode, simulator.

`model` says what goes in and out, `learning` turns observations into rates and run times, `rule` decides.
"""

from taskfleet_core.scaling.model import Cause, Decision, Memory, Observation, Pace, ScalingSpec, Terms
from taskfleet_core.scaling.rule import decide

__all__ = ["Cause", "Decision", "Memory", "Observation", "Pace", "ScalingSpec", "Terms", "decide"]
