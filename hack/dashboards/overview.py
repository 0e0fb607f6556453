"""All queues at a glance: where work waits, who is short of workers, what fails."""

from typing import Any

from dashboards.building import Row, Target, bars, build_dashboard, lines, stat, table, variable

__all__ = ["OVERVIEW", "VARIABLES"]

NAMESPACES = "label_values(taskfleet_queue_statistics_available, namespace)"
QUEUES = 'label_values(taskfleet_queue_statistics_available{namespace=~"$namespace"}, queue)'
VARIABLES = [variable("namespace", "Namespace", NAMESPACES), variable("queue", "Queue", QUEUES)]
CHOSEN = 'namespace=~"$namespace",queue=~"$queue"'
LEGEND = "{{namespace}}/{{queue}}"
BAD = 'state=~"failed|expired|dead"'


def each(metric: str, more: str = "") -> str:
    """A figure of each queue; where an old and a new leader overlap, once."""
    return f"max by (namespace, queue) ({metric}{{{CHOSEN}{more}}})"


def finished(more: str = "") -> str:
    """Attempts that ended per second."""
    return f'rate(taskfleet_tasks_finished_total{{queue=~"$queue"{more}}}[$__rate_interval])'


READY, IN_HAND = ',state="ready"', ',state="unacknowledged"'
OVER_TARGET = f"{each('taskfleet_queue_wait_seconds')} > {each('taskfleet_queue_target_wait_seconds')}"
# The API knows no namespaces: the operator's series lend theirs.
FAILED_BY_QUEUE = (
    f"({each('taskfleet_queue_statistics_available')} * 0 + 1) * on (queue) group_left "
    f'sum by (queue) (increase(taskfleet_tasks_finished_total{{queue=~"$queue",{BAD}}}[$__range]))'
)

NUMBERS = Row(
    "Now",
    [
        stat("Tasks waiting", f"sum({each('taskfleet_queue_messages', READY)})", "At the broker, in nobody's hands."),
        stat("Tasks in hand", f"sum({each('taskfleet_queue_messages', IN_HAND)})", "Delivered to workers, not ended."),
        stat("Workers consuming", f"sum({each('taskfleet_workers_ready')})", "Pods that take tasks."),
        stat("Workers wanted", f"sum({each('taskfleet_workers_desired')})", "What the scaling rule asks for."),
        stat(
            "Queues over their target",
            f"count({OVER_TARGET}) or vector(0)",
            "Queues whose last task is expected to wait longer than spec.scaling.targetWaitSeconds.",
            bad_above=1,
        ),
        stat(
            "Queues without figures",
            f"count({each('taskfleet_queue_statistics_available')} == 0) or vector(0)",
            "The broker tells nothing of them: their replicas are held.",
            bad_above=1,
        ),
    ],
)

QUEUE_TABLE = Row(
    "Queues",
    [
        table(
            "Queues",
            [
                ("Waiting", "short", each("taskfleet_queue_messages", READY)),
                ("In hand", "short", each("taskfleet_queue_messages", IN_HAND)),
                ("Expected wait", "s", each("taskfleet_queue_wait_seconds")),
                ("Target", "s", each("taskfleet_queue_target_wait_seconds")),
                ("Wanted", "short", each("taskfleet_workers_desired")),
                ("Pods", "short", each("taskfleet_workers")),
                ("Consuming", "short", each("taskfleet_workers_ready")),
                ("Arrivals/s", "ops", each("taskfleet_queue_arrivals_per_second")),
                ("Failed in range", "short", FAILED_BY_QUEUE),
            ],
            "One row for each TaskQueue. The last column counts failed, expired and dead tasks of the chosen time.",
        )
    ],
)

WORK = Row(
    "Work",
    [
        lines(
            "Tasks waiting",
            [Target(each("taskfleet_queue_messages", READY), LEGEND)],
            "By queue, at the broker.",
            stack=True,
        ),
        lines(
            "Expected wait against the target",
            [Target(f"{each('taskfleet_queue_wait_seconds')} / {each('taskfleet_queue_target_wait_seconds')}", LEGEND)],
            "1 is spec.scaling.targetWaitSeconds. No line where nobody works yet: then nothing can be expected.",
            unit="percentunit",
        ),
        lines(
            "Arrivals",
            [Target(each("taskfleet_queue_arrivals_per_second"), LEGEND)],
            "Tasks that come, by queue.",
            unit="ops",
        ),
        lines(
            "Finished",
            [Target(f"sum by (queue) ({finished()})", "{{queue}}")],
            "Attempts that ended, by queue.",
            unit="ops",
        ),
    ],
)

WORKERS = Row(
    "Workers",
    [
        lines("Workers", [Target(each("taskfleet_workers"), LEGEND)], "Pods that exist, by queue.", stack=True),
        bars(
            "Scaling decisions",
            [
                Target(
                    f"sum by (cause) (increase(taskfleet_scaling_decisions_total{{{CHOSEN}}}[$__rate_interval]))",
                    "{{cause}}",
                )
            ],
            "What ruled the decisions: backlog, load, depth, a bound, a pin; unknown where figures cannot be read.",
        ),
    ],
)

TROUBLE = Row(
    "Outcomes",
    [
        bars(
            "Failed, expired and dead",
            [
                Target(
                    f'sum by (queue, state) (increase(taskfleet_tasks_finished_total{{queue=~"$queue",{BAD}}}'
                    "[$__rate_interval]))",
                    "{{queue}} {{state}}",
                )
            ],
            "Tasks that ended badly. Dead ones wait for a redrive or a purge.",
        ),
        lines(
            "Run time, 95th percentile",
            [
                Target(
                    "histogram_quantile(0.95, sum by (queue, le) "
                    '(rate(taskfleet_task_run_seconds_bucket{queue=~"$queue"}[$__rate_interval])))',
                    "{{queue}}",
                )
            ],
            "Of the tasks that ended, by queue.",
            unit="s",
        ),
    ],
)


def _build() -> dict[str, Any]:
    description = "All task queues: what waits, how long, how many workers there are and why, what fails."
    return build_dashboard(
        "Taskfleet / Overview", description, VARIABLES, [NUMBERS, QUEUE_TABLE, WORK, WORKERS, TROUBLE]
    )


OVERVIEW = _build()
