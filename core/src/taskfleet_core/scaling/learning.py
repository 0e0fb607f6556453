"""What observations teach: run time and arrival rate. Pure: the memory goes in and comes out."""

import math
from dataclasses import replace

from taskfleet_core.scaling.model import Memory, Observation, ScalingSpec

__all__ = ["get_rate", "get_run_seconds", "learn", "start_memory"]

FAST_SECONDS, SLOW_SECONDS = 10.0, 30.0  # the two arrival averages; never shorter than a quarter of a run
CHANCE_DEVIATIONS = 1.5  # the fast average that differs from the slow one by less than this may do so by chance
SILENCE_SECONDS = 6.0  # without arrivals; less may be the age of the broker's figures
MOST_UNSEEN_ARRIVALS = 3.0  # the rule of three: where none came in a time, more than three were unlikely (5 %)
RUN_TIME_MEMORY_SECONDS = 300.0
PRIOR_RUN_SECONDS = 2.0  # one imagined completion, until workers have told better
ENOUGH_COMPLETIONS = 5  # before, the age of the oldest wait for a completion bounds the run time from below


def start_memory(seen: Observation, spec: ScalingSpec, depth: int) -> Memory:
    """The memory of somebody who has seen one observation."""
    return Memory(
        spec=spec,
        at=seen.at,
        published=seen.published,
        completed=seen.completed,
        run_seconds_sum=seen.run_seconds_sum,
        tasks_in_queue=depth,
        task_seen_at=seen.at,
        arrived_at=seen.at,
        completion_seen_at=seen.at,
    )


def learn(seen: Observation, spec: ScalingSpec, memory: Memory, ready: int, unacknowledged: int) -> tuple[Memory, int]:
    """Fold the observation into run times and arrival rates; also tells how many tasks arrived."""
    done = max(0, seen.completed - memory.completed)
    if seen.published is not None and memory.published is not None:
        arrived = max(0, seen.published - memory.published)
    else:
        arrived = max(0, ready + unacknowledged - memory.tasks_in_queue + done)
    elapsed = max(0.0, seen.at - memory.at)
    keep = math.exp(-elapsed / RUN_TIME_MEMORY_SECONDS) if done else 1.0
    same = memory.spec == spec  # what is held or paced belongs to its spec: a new one acts at once
    memory = replace(
        memory,
        spec=spec,
        at=seen.at,
        published=seen.published,
        completed=seen.completed,
        run_seconds_sum=seen.run_seconds_sum,
        tasks_in_queue=ready + unacknowledged,
        completions=memory.completions * keep + done,
        run_seconds=memory.run_seconds * keep + max(0.0, seen.run_seconds_sum - memory.run_seconds_sum),
        completion_seen_at=seen.at if done or not unacknowledged else memory.completion_seen_at,
        task_seen_at=seen.at if ready or unacknowledged or arrived else memory.task_seen_at,
        arrived_at=seen.at if arrived else memory.arrived_at,
        needs=memory.needs if same else (),
        loads=memory.loads if same else (),
        lows=memory.lows if same else (),
        highs=memory.highs if same else (),
    )
    return _learn_rates(memory, arrived, elapsed), arrived


def _learn_rates(memory: Memory, arrived: int, elapsed: float) -> Memory:
    if not elapsed:
        return memory
    run = get_run_seconds(memory)
    fast, slow = (1 - math.exp(-elapsed / max(seconds, run / 4)) for seconds in (FAST_SECONDS, SLOW_SECONDS))
    rate = arrived / elapsed
    return replace(
        memory,
        fast_rate=memory.fast_rate + (rate - memory.fast_rate) * fast,
        slow_rate=memory.slow_rate + (rate - memory.slow_rate) * slow,
    )


def get_run_seconds(memory: Memory) -> float:
    """The mean run time of a task, seconds; before enough completions at least the age of the oldest wait for one."""
    mean = (memory.run_seconds + PRIOR_RUN_SECONDS) / (memory.completions + 1.0)
    if memory.completions < ENOUGH_COMPLETIONS:
        return max(mean, memory.at - memory.completion_seen_at)
    return mean


def get_rate(memory: Memory) -> float:
    """Arrivals per second: the slow average, or the fast one where more than chance divides them; little in silence."""
    chance = CHANCE_DEVIATIONS * math.sqrt(memory.slow_rate / (2 * FAST_SECONDS))  # of a Poisson count so averaged
    rate = memory.slow_rate if abs(memory.fast_rate - memory.slow_rate) <= chance else memory.fast_rate
    silent = memory.at - memory.arrived_at
    return min(rate, MOST_UNSEEN_ARRIVALS / silent) if silent > SILENCE_SECONDS else rate
