"""What a scaling rule would have done: one queue and its worker pods, event by event, without a clock or a cluster.

`engine` moves the tasks and pods, `scalers` are the rules that it asks (ours, KEDA with the HPA, fixed sizes and
other peers), `summary` turns a run into figures.
"""

from taskfleet_core.simulation.engine import simulate
from taskfleet_core.simulation.model import Conditions, Run, Scaler, Startup, StartupProfile, StartupTimes, Trace
from taskfleet_core.simulation.scalers import (
    DepthScaler,
    FixedScaler,
    KedaScaler,
    KedaSettings,
    TaskfleetScaler,
    ThroughputScaler,
)
from taskfleet_core.simulation.summary import Summary, build_summary, get_quantile

__all__ = [
    "Conditions",
    "DepthScaler",
    "FixedScaler",
    "KedaScaler",
    "KedaSettings",
    "Run",
    "Scaler",
    "Startup",
    "StartupProfile",
    "StartupTimes",
    "Summary",
    "TaskfleetScaler",
    "ThroughputScaler",
    "Trace",
    "build_summary",
    "get_quantile",
    "simulate",
]
