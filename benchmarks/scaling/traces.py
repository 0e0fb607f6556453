"""The traces: thirteen that the rule was made with, and others that it was not (`unseen`). All are drawn from seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from taskfleet_core.simulation import Trace

__all__ = ["NEED_A_WARM_MINIMUM", "Case", "load_cases", "load_unseen_cases"]

DATA = Path(__file__).with_name("data")
# One start-up decides about all their tasks: only pods that run beforehand keep the target.
NEED_A_WARM_MINIMUM = ("step1000", "sparse")

Array = Any  # numpy's arrays; the package is a tool of development and its types are not checked here
Make = Callable[[Any], "Case"]


@dataclass(frozen=True)
class Case:
    """A trace and the pods that serve it."""

    trace: Trace
    slots: int
    rounds: int = 1  # runs with other phases and start-up times, pooled

    @property
    def name(self) -> str:
        """The trace's name."""
        return self.trace.name


def build_case(
    name: str, arrivals: Array, run_seconds: Array, slots: int, horizon: float, rounds: int = 1, note: str = ""
) -> Case:
    """A case of arrays."""
    return Case(Trace(name, arrivals.tolist(), run_seconds.tolist(), horizon, note), slots, rounds)


def draw_arrivals(rate: Array, chance: Any) -> Array:
    """Arrivals of a Poisson process; `rate[i]` is tasks per second in second i."""
    counts = chance.poisson(np.maximum(rate, 0.0))
    seconds = np.repeat(np.arange(len(rate), dtype=float), counts)
    return np.sort(seconds + chance.random(len(seconds)))


def draw_lognormal(mean: float, sigma: float, size: int, chance: Any) -> Array:
    """Run times with a mean."""
    return np.exp(chance.normal(np.log(mean) - sigma * sigma / 2, sigma, size))


def build_poisson(
    name: str, rate: Array, mean: float, chance: Any, *, sigma: float = 0.7, slots: int = 4, rounds: int = 1, note: str
) -> Case:
    """Poisson arrivals at a rate per second, lognormal run times."""
    arrivals = draw_arrivals(rate, chance)
    run_seconds = draw_lognormal(mean, sigma, len(arrivals), chance)
    return build_case(name, arrivals, run_seconds, slots, float(len(rate)), rounds, note)


def scale_rate(counts: Array, peak_pods: float, mean: float, slots: int, smooth: int = 30) -> Array:
    """A profile per second as a rate whose `smooth`-second peak keeps `peak_pods` busy."""
    rate = np.asarray(counts, float)
    top = np.convolve(rate, np.ones(smooth) / smooth, "valid").max()
    return rate * (peak_pods * slots / mean) / top


def _step(chance: Any) -> Case:
    run_seconds = draw_lognormal(1.5, 0.5, 1000, chance)
    return build_case("step1000", np.full(1000, 67.3), run_seconds, 4, 1800.0, 8, "1,000 tasks of 1.5 s at once")


def _ramp(chance: Any) -> Case:
    rate = np.concatenate([np.linspace(0, 40, 2400), np.linspace(40, 0, 1200)])
    return build_poisson("ramp", rate, 4.0, chance, note="0 to 40 pods in 40 min, back in 20")


def _sine(chance: Any) -> Case:
    rate = 20 - 18 * np.cos(2 * np.pi * np.arange(3600) / 1200)
    return build_poisson("sine", rate, 4.0, chance, note="2 to 38 pods, period 20 min")


def _square(chance: Any) -> Case:
    on = (np.arange(3600) // 300) % 2 == 1
    return build_poisson(
        "square", np.where(on, 40.0, 0.0), 3.0, chance, rounds=2, note="30 pods on and off, 5 min each"
    )


def _sparse(chance: Any) -> Case:
    arrivals = np.arange(12) * 600.0 + 5.0 + chance.random(12) * 590
    run_seconds = draw_lognormal(20.0, 0.3, 12, chance)
    return build_case("sparse", arrivals, run_seconds, 4, 7200.0, 8, "one task of 20 s in 10 min")


def _flash(chance: Any) -> Case:
    second = np.arange(3600)
    rate = np.full(3600, 4.0)
    for begin in (607, 2011):
        crowd = 44 * np.clip((second - begin) / 10, 0, 1) * np.exp(-np.maximum(second - begin - 120, 0) / 90)
        rate += np.where(second >= begin, crowd, 0)
    return build_poisson("flash", rate, 3.0, chance, rounds=3, note="3 pods, two crowds of 12 times as much")


def _bimodal(chance: Any) -> Case:
    arrivals = draw_arrivals(130 - 100 * np.cos(2 * np.pi * np.arange(1200) / 600), chance)
    run_seconds = np.where(chance.random(len(arrivals)) < 0.01, 30.0, 0.05)
    return build_case("bimodal", arrivals, run_seconds, 4, 1200.0, 1, "99 % of 50 ms, 1 % of 30 s")


def _long(chance: Any) -> Case:
    steady = draw_arrivals(np.where(np.arange(5400) < 3600, 0.04, 0.015), chance)
    arrivals = np.sort(np.concatenate([np.full(30, 307.0), steady]))
    run_seconds = draw_lognormal(600.0, 0.3, len(arrivals), chance)
    return build_case("long", arrivals, run_seconds, 2, 7200.0, 5, "tasks of 10 min, 30 of them at once")


def _azure(kind: str) -> Make:
    def make(chance: Any) -> Case:
        recorded = np.load(DATA / "azure.npz")
        arrivals = recorded[kind + "_t"]
        run_seconds = 0.1 + 0.0004 * recorded[kind + "_ctx"] + 0.02 * recorded[kind + "_gen"]
        work = np.bincount(arrivals.astype(int), weights=run_seconds, minlength=3600)
        run_seconds = run_seconds * 40 / np.convolve(work, np.ones(30) / 30, "valid").max()
        return build_case(f"azure_{kind}", arrivals, run_seconds, 1, 3600.0, 2, "recorded LLM calls, 1 slot a pod")

    return make


def _nab(name: str) -> Make:
    def make(chance: Any) -> Case:
        counts = np.load(DATA / "nab.npz")[name]
        first = max(0, min(len(counts) - 120, int(np.argmax(counts)) - 70))
        rate = np.interp(np.arange(7200) / 60.0, np.arange(120) + 0.5, counts[first : first + 120])
        return build_poisson(
            f"nab_{name}", scale_rate(rate, 40, 4.0, 4), 4.0, chance, note="recorded counts around their peak"
        )

    return make


MAKERS: Sequence[Make] = (
    _step, _ramp, _sine, _square, _sparse, _flash, _bimodal, _long,
    _azure("code"), _azure("conv"), _nab("AMZN"), _nab("AAPL"), _nab("elb"),
)  # fmt: skip


def _waves(chance: Any) -> Case:
    on = (np.arange(1200) // 20) % 2 == 1
    return build_poisson(
        "waves", np.where(on, 12.0, 0.0), 1.0, chance, slots=2, rounds=3, note="6 pods on and off, 20 s each"
    )


def _batches(chance: Any) -> Case:
    moments = np.cumsum(chance.exponential(90.0, 40))
    sizes = chance.integers(20, 200, 40)
    arrivals = np.repeat(moments, sizes)
    run_seconds = draw_lognormal(2.0, 0.8, len(arrivals), chance)
    steady = draw_arrivals(np.full(3600, 4.0), chance)
    both = np.concatenate([arrivals, steady])
    order = np.argsort(both, kind="stable")
    all_seconds = np.concatenate([run_seconds, draw_lognormal(2.0, 0.8, len(steady), chance)])[order]
    return build_case(
        "batches", both[order], all_seconds, 4, float(moments[-1] + 60), 2, "20 to 200 at once over 2 pods"
    )


def _tiny(chance: Any) -> Case:
    rate = 300 + 200 * np.sin(2 * np.pi * np.arange(400) / 200)
    return build_poisson("tiny", rate, 0.05, chance, sigma=1.0, note="100 to 500 tasks of 50 ms a second")


def _switching(chance: Any) -> Case:
    levels, rate = (2.0, 15.0, 30.0), []
    while len(rate) < 3600:
        rate += [levels[int(chance.integers(3))]] * (1 + int(chance.exponential(80.0)))
    return build_poisson(
        "switching", np.array(rate[:3600]), 2.5, chance, rounds=2, note="three levels, 80 s each by chance"
    )


def _minutes(chance: Any) -> Case:
    rate = 0.3 + 0.25 * np.sin(2 * np.pi * np.arange(7200) / 3600)
    return build_poisson(
        "minutes", rate, 90.0, chance, sigma=0.5, slots=2, rounds=3, note="tasks of 90 s, 2 to 25 pods"
    )


def _heavy(chance: Any) -> Case:
    arrivals = draw_arrivals(np.full(3600, 6.0), chance)
    run_seconds = np.minimum(0.6 * (1 + chance.pareto(1.5, len(arrivals))), 300.0)
    return build_case("heavy", arrivals, run_seconds, 4, 3600.0, 2, "run times of a Pareto law, 6 tasks a second")


def _drifting(chance: Any) -> Case:
    arrivals = draw_arrivals(np.full(3600, 6.0), chance)
    run_seconds = draw_lognormal(1.0, 0.5, len(arrivals), chance) * np.where(arrivals < 1800, 1.0, 6.0)
    return build_case("drifting", arrivals, run_seconds, 4, 3600.0, 2, "run time from 1 s to 6 s at half-time")


def _small(chance: Any) -> Case:
    rate = 0.4 + 0.35 * np.sin(2 * np.pi * np.arange(7200) / 1800)
    return build_poisson("small", rate, 3.0, chance, slots=2, rounds=3, note="at most two pods")


UNSEEN_MAKERS: Sequence[Make] = (_waves, _batches, _tiny, _switching, _minutes, _heavy, _drifting, _small)


def load_cases() -> list[Case]:
    """The thirteen traces."""
    return [make(np.random.default_rng(1000 + number)) for number, make in enumerate(MAKERS)]


def load_unseen_cases() -> list[Case]:
    """Traces that no constant of the rule was chosen by."""
    return [make(np.random.default_rng(2000 + number)) for number, make in enumerate(UNSEEN_MAKERS)]
