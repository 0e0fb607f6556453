"""A decision as it is told to others: the document that operator and local mode leave in the store, and its words."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TypedDict

from taskfleet_core.scaling.model import Cause, Decision

__all__ = ["DecisionReport", "build_report", "describe_report"]

# What no term decided. Nor are terms told where nothing runs, waits or arrives.
WITHOUT_TERMS = frozenset({Cause.UNKNOWN, Cause.PINNED})


class DecisionReport(TypedDict):
    """The last decision about the workers of a queue."""

    at: float  # Unix time
    replicas: int
    cause: str  # of `Cause`, or a newer version's
    reason: str
    acting: bool  # false: reported only (DryRun, External, paused)
    terms: dict[str, float | None]  # of `Terms`


def build_report(decision: Decision, *, at: float, acting: bool) -> DecisionReport:
    """The document of a decision."""
    return {
        "at": at,
        "replicas": decision.replicas,
        "cause": str(decision.cause),
        "reason": decision.reason,
        "acting": acting,
        "terms": asdict(decision.terms),
    }


def describe_report(report: DecisionReport) -> list[str]:
    """The way to the decision in sentences, the outcome last."""
    terms = {name: value for name, value in report["terms"].items() if value is not None}
    weighed = terms.get("load_slots") or terms.get("backlog_slots")
    steps = list(_describe_terms(terms)) if weighed and report["cause"] not in WITHOUT_TERMS else []
    steps.append(f"{_count(report['replicas'])}: {report['reason']}")
    if not report["acting"]:
        steps.append("reported only: nothing is changed")
    return steps


def _describe_terms(terms: dict[str, float]) -> Iterator[str]:
    def get(name: str) -> float:
        return terms.get(name, 0.0)

    yield (
        f"a task runs {get('run_seconds'):.3g} s on average, {get('arrivals_per_second'):.3g} arrive each second, "
        f"a worker takes {get('startup_seconds'):.2g} s to start"
    )
    yield f"load: {get('load_slots'):.1f} slots will be busy when a worker asked for now is ready"
    yield f"backlog: {get('backlog_slots'):.1f} more slots start in time what waits beyond the reach of present workers"
    yield f"safety: {get('safety_slots'):.1f} spare slots against chance"
    yield f"together {_count(round(get('need_replicas')))}, after holds {_count(round(get('held_replicas')))}"
    if get("wait_seconds"):
        yield f"with the workers that are ready the last waiting task starts in about {get('wait_seconds'):.1f} s"


def _count(replicas: int) -> str:
    return "1 worker" if replicas == 1 else f"{replicas} workers"
