"""One queue in full: depth, waits, replicas with their reasons, throughput, outcomes and run times."""

from typing import Any

from dashboards.building import Row, Target, bars, build_dashboard, lines, stat, states, variable
from dashboards.overview import BAD, CHOSEN, IN_HAND, NAMESPACES, QUEUES, READY, each, finished

__all__ = ["QUEUE"]

VARIABLES = [variable("namespace", "Namespace", NAMESPACES), variable("queue", "Queue", QUEUES, many=False)]


ENDED = ',state!="retrying"'


def quantile(share: float, histogram: str) -> str:
    """A percentile of the queue's tasks."""
    rate = f'rate({histogram}_bucket{{queue=~"$queue"}}[$__rate_interval])'
    return f"histogram_quantile({share}, sum by (le) ({rate}))"


def counted(metric: str) -> str:
    """Per second, of the operator's counters."""
    return f"sum(rate({metric}{{{CHOSEN}}}[$__rate_interval]))"


NOW = Row(
    "Now",
    [
        stat("Waiting", each("taskfleet_queue_messages", READY), "At the broker, in nobody's hands."),
        stat("In hand", each("taskfleet_queue_messages", IN_HAND), "Delivered to workers, not ended."),
        stat("Expected wait", each("taskfleet_queue_wait_seconds"), "Of the last task in the queue.", unit="s"),
        stat("Workers wanted", each("taskfleet_workers_desired"), "What the scaling rule asks for."),
        stat("Workers consuming", each("taskfleet_workers_ready"), "Pods that take tasks."),
        stat(
            "Dead in range",
            'sum(increase(taskfleet_tasks_finished_total{queue=~"$queue",state="dead"}[$__range]))',
            "Tasks past their delivery limit: redrive or purge them.",
            bad_above=1,
        ),
    ],
)

DEPTH = Row(
    "Queue",
    [
        lines(
            "Depth",
            [
                Target(each("taskfleet_queue_messages", READY), "waiting"),
                Target(each("taskfleet_queue_messages", IN_HAND), "in hand"),
            ],
            "What the broker holds.",
            stack=True,
        ),
        lines(
            "Wait",
            [
                Target(each("taskfleet_queue_wait_seconds"), "expected for the last task"),
                Target(each("taskfleet_queue_target_wait_seconds"), "target"),
                Target(quantile(0.5, "taskfleet_task_wait_seconds"), "measured, median"),
                Target(quantile(0.95, "taskfleet_task_wait_seconds"), "measured, 95th percentile"),
            ],
            "Expected by the rule, and measured from when tasks were due until they started.",
            unit="s",
        ),
    ],
)

SCALING = Row(
    "Workers and decisions",
    [
        lines(
            "Workers",
            [
                Target(each("taskfleet_workers_desired"), "wanted"),
                Target(each("taskfleet_workers"), "pods"),
                Target(each("taskfleet_workers_ready"), "consuming"),
            ],
            "Wanted by the rule, existing, and taking tasks.",
        ),
        bars(
            "Decisions by cause",
            [
                Target(
                    f"sum by (cause) (increase(taskfleet_scaling_decisions_total{{{CHOSEN}}}[$__rate_interval]))",
                    "{{cause}}",
                )
            ],
            "Why the number of workers is what it is; `kubectl describe taskqueue` has the last reason in words.",
        ),
        lines(
            "Slots",
            [
                Target(each("taskfleet_worker_slots", ',state="busy"'), "busy"),
                Target(each("taskfleet_worker_slots", ',state="idle"'), "idle"),
            ],
            "Tasks that the workers run, and could run.",
            stack=True,
        ),
        lines(
            "Start of a worker",
            [Target(each("taskfleet_worker_startup_seconds"), "created until first heartbeat")],
            "Averaged over the latest pods.",
            unit="s",
        ),
    ],
)

THROUGHPUT = Row(
    "Throughput",
    [
        lines(
            "Rates",
            [
                Target(each("taskfleet_queue_arrivals_per_second"), "arrivals, as the rule sees them"),
                Target(counted("taskfleet_queue_published_total"), "published"),
                Target(counted("taskfleet_queue_acknowledged_total"), "acknowledged"),
                Target(counted("taskfleet_tasks_completed_total"), "completed by workers"),
            ],
            "What comes and what leaves.",
            unit="ops",
        ),
        lines(
            "Submissions",
            [
                Target(
                    'sum by (outcome) (rate(taskfleet_api_submissions_total{queue=~"$queue"}[$__rate_interval]))',
                    "{{outcome}}",
                )
            ],
            "Through the API; plain Celery producers are not among them.",
            unit="ops",
        ),
        lines(
            "Finished by state",
            [Target(f"sum by (state) ({finished()})", "{{state}}")],
            "Attempts that ended; `retrying` where the platform tries again.",
            unit="ops",
            stack=True,
        ),
        lines(
            "Share that ended badly",
            [
                Target(
                    f"sum({finished(f',{BAD}')}) / sum({finished(ENDED)})",
                    "failed, expired or dead",
                )
            ],
            "Of all tasks that ended. No line while none ends.",
            unit="percentunit",
        ),
    ],
)

RUN_TIMES = Row(
    "Run time",
    [
        lines(
            "Run time",
            [
                Target(quantile(0.5, "taskfleet_task_run_seconds"), "median"),
                Target(quantile(0.95, "taskfleet_task_run_seconds"), "95th percentile"),
                Target(quantile(0.99, "taskfleet_task_run_seconds"), "99th percentile"),
                Target(
                    f"{counted('taskfleet_task_run_seconds_total')} / {counted('taskfleet_tasks_completed_total')}",
                    "mean, by heartbeats",
                ),
            ],
            "Of tasks that ended.",
            unit="s",
        ),
        states(
            "Figures can be read",
            Target(each("taskfleet_queue_statistics_available"), "{{queue}}"),
            "While the broker tells nothing, replicas are held.",
        ),
    ],
)


def _build() -> dict[str, Any]:
    description = "One task queue: depth, waits, workers with the reasons of their number, throughput, run times."
    return build_dashboard("Taskfleet / Queue", description, VARIABLES, [NOW, DEPTH, SCALING, THROUGHPUT, RUN_TIMES])


QUEUE = _build()
