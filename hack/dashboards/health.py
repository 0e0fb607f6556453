"""The platform itself: API, recorder, publishing, operator."""

from typing import Any

from dashboards.building import Row, Target, bars, build_dashboard, lines, stat, states

__all__ = ["HEALTH"]

RATE = "[$__rate_interval]"


def rate(metric: str, by: str) -> str:
    """Per second over all replicas."""
    return f"sum by ({by}) (rate({metric}{RATE}))"


def percentiles(histogram: str, selector: str = "") -> list[Target]:
    """Median, 95th and 99th over all replicas."""
    buckets = f"sum by (le) (rate({histogram}_bucket{selector}{RATE}))"
    return [
        Target(f"histogram_quantile({share}, {buckets})", legend)
        for share, legend in ((0.5, "median"), (0.95, "95th percentile"), (0.99, "99th percentile"))
    ]


def of_process(metric: str, marker: str) -> str:
    """A figure of the processes that also expose the marker: jobs and ports have other names everywhere."""
    return f"{metric} and on (job, instance) {marker}"


API, OPERATOR = "taskfleet_api_dispatch_waiting", "taskfleet_operator_leader"

NOW = Row(
    "Now",
    [
        stat("API replicas", f"count({API})", "That Prometheus reaches."),
        stat("Not yet published", "max(taskfleet_api_backlog)", "Accepted, not at the broker yet.", bad_above=1000),
        stat("Operators that lead", "sum(taskfleet_operator_leader)", "Must be 1."),
        stat(
            "Age of the figures",
            "time() - max(taskfleet_operator_poll_timestamp_seconds)",
            "Since the operator last read all brokers.",
            unit="s",
            bad_above=30,
        ),
        stat("TaskQueues to look at", "max(taskfleet_operator_work_queue_depth)", "In the operator's work queue."),
        stat(
            "Recorder's lag",
            "max(taskfleet_recorder_lag_seconds)",
            "Age of the last event when it was applied.",
            unit="s",
            bad_above=60,
        ),
    ],
)

REQUESTS = Row(
    "API: requests",
    [
        lines(
            "Requests",
            [Target(rate("taskfleet_api_requests_total", "status"), "{{status}}")],
            "By status.",
            unit="reqps",
            stack=True,
        ),
        lines(
            "Time to answer a submission",
            percentiles("taskfleet_api_request_seconds", '{route="/api/v1/tasks",method="POST"}'),
            "Waits not counted.",
            unit="s",
        ),
        lines(
            "Time to answer by route, 95th percentile",
            [
                Target(
                    f"histogram_quantile(0.95, {rate('taskfleet_api_request_seconds_bucket', 'method, route, le')})",
                    "{{method}} {{route}}",
                )
            ],
            "Waits and streams not counted.",
            unit="s",
        ),
        lines("Streams and waits", [Target("sum by (kind) (taskfleet_api_streams)", "{{kind}}")], "Open now."),
        lines(
            "Submissions",
            [
                Target(rate("taskfleet_api_submissions_total", "outcome"), "{{outcome}}"),
                Target(rate("taskfleet_api_refused_total", "reason"), "refused: {{reason}}"),
            ],
            "Tasks, not requests.",
            unit="ops",
        ),
        states(
            "Dependencies answer",
            Target("min by (dependency) (taskfleet_api_dependency_up)", "{{dependency}}"),
            "As the worst replica sees it.",
        ),
    ],
)

COMMITS = Row(
    "API: records and publishing",
    [
        lines("Commit of new tasks", percentiles("taskfleet_api_commit_seconds"), "Time in the database.", unit="s"),
        lines(
            "Tasks in a commit",
            [
                Target(
                    f"sum(rate(taskfleet_api_commit_tasks_sum{RATE}))"
                    f" / sum(rate(taskfleet_api_commit_tasks_count{RATE}))",
                    "mean",
                )
            ],
            "Requests that come together share a commit.",
        ),
        lines("Publishing", percentiles("taskfleet_api_publish_seconds"), "Until the broker confirmed.", unit="s"),
        lines(
            "Messages sent",
            [Target(rate("taskfleet_api_published_total", "outcome"), "{{outcome}}")],
            "What is not confirmed is sent again.",
            unit="ops",
        ),
        lines(
            "Waiting to be published",
            [
                Target("max(taskfleet_api_backlog)", "records"),
                Target("sum(taskfleet_api_dispatch_waiting)", "in memory"),
            ],
            "Past TASKFLEET_API_MAX_BACKLOG submissions get 503.",
        ),
        bars(
            "Sweeper",
            [Target(f"sum by (action) (increase(taskfleet_sweeper_tasks_total{RATE}))", "{{action}}")],
            "Due and left tasks published, expired, lost ones run again, stale deliveries reclaimed.",
        ),
    ],
)

RECORDER = Row(
    "API: recorder and background work",
    [
        lines(
            "Events of workers",
            [Target(rate("taskfleet_recorder_events_total", "outcome"), "{{outcome}}")],
            "By outcome.",
            unit="ops",
        ),
        lines(
            "Lag",
            [Target("max(taskfleet_recorder_lag_seconds)", "last applied event")],
            "Stays as it was while no event comes.",
            unit="s",
        ),
        states("Loops succeed", Target("min by (loop) (taskfleet_api_loop_healthy)", "{{loop}}"), "In every replica."),
        bars(
            "Schedules, callbacks and retention",
            [
                Target(f"sum by (outcome) (increase(taskfleet_schedule_ticks_total{RATE}))", "tick {{outcome}}"),
                Target(f"sum by (outcome) (increase(taskfleet_callbacks_total{RATE}))", "callback {{outcome}}"),
                Target(f"sum(increase(taskfleet_retention_deleted_total{RATE}))", "records deleted"),
            ],
            "Ticks of periodic tasks, calls of receivers, and finished records past their retention.",
        ),
    ],
)

OPERATOR_ROW = Row(
    "Operator",
    [
        lines(
            "Round of reading",
            [Target("max(taskfleet_operator_poll_seconds)", "duration")],
            "All brokers and heartbeats, once a second.",
            unit="s",
        ),
        lines(
            "Reconciles",
            [
                Target(f"sum(rate(taskfleet_operator_reconciles_total{RATE}))", "done"),
                Target("max(taskfleet_operator_work_queue_depth)", "waiting"),
            ],
            "Per second, and TaskQueues in the work queue.",
        ),
        lines(
            "Consumers and the API's view",
            [
                Target("sum(taskfleet_queue_consumers)", "consumers at the brokers"),
                Target("sum(max by (queue) (taskfleet_queue_workers))", "workers that beat"),
                Target("sum(max by (queue) (taskfleet_queue_slots))", "slots"),
                Target("sum(max by (queue) (taskfleet_queue_busy_slots))", "busy slots"),
                Target("sum(max by (queue) (taskfleet_queue_ready))", "tasks waiting"),
                Target("sum(max by (queue) (taskfleet_queue_unacknowledged))", "tasks in hand"),
            ],
            "Two readers of the same things: the operator and the API. Where they disagree, one of them is cut off.",
            width=24,
        ),
    ],
)

PROCESSES = Row(
    "Processes",
    [
        lines(
            "CPU",
            [
                Target(of_process(f"rate(process_cpu_seconds_total{RATE})", API), "API {{instance}}"),
                Target(of_process(f"rate(process_cpu_seconds_total{RATE})", OPERATOR), "operator {{instance}}"),
            ],
            "Cores in use.",
        ),
        lines(
            "Memory",
            [
                Target(of_process("process_resident_memory_bytes", API), "API {{instance}}"),
                Target(of_process("process_resident_memory_bytes", OPERATOR), "operator {{instance}}"),
            ],
            "Resident.",
            unit="bytes",
        ),
    ],
)


def _build() -> dict[str, Any]:
    description = "API and operator: requests, commits, publishing, recording, polling, reconciling."
    rows = [NOW, REQUESTS, COMMITS, RECORDER, OPERATOR_ROW, PROCESSES]
    return build_dashboard("Taskfleet / Health", description, [], rows)


HEALTH = _build()
