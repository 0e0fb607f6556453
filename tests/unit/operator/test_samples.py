"""What Prometheus is told of a TaskQueue: unknown is no sample, and every sample is in the table."""

import pytest
from tests.unit.operator.builders import build_observed, build_pods, build_statistics, plan

from taskfleet_core.scaling import Cause
from taskfleet_operator.metrics import METRICS
from taskfleet_operator.samples import build_samples


def read(observed, decision=None):
    """Name and last label of each exported value."""
    figures = {"q": observed.statistics}
    samples = [sample for sample in build_samples(observed, decision, {}, figures) if sample.value is not None]
    for sample in samples:
        assert len(sample.labels) == len(METRICS[sample.name][1]), sample
        assert sample.labels[:2] == ("team", "q")
    return {(sample.name, *sample.labels[2:]): sample.value for sample in samples}


def test_a_busy_queue_in_numbers():
    pods, beats = build_pods(2)
    beats = ({**beats[0], "busy": 2}, {**beats[1], "consuming": False})
    observed = build_observed(statistics=build_statistics(5, 2), pods=pods, heartbeats=beats, completed=7)
    told = read(observed, plan(observed).decision)
    assert told["taskfleet_queue_messages", "ready"] == 5
    assert told["taskfleet_queue_messages", "unacknowledged"] == 2
    assert told["taskfleet_worker_slots", "busy"] == 2
    assert told["taskfleet_worker_slots", "idle"] == 2
    assert (told["taskfleet_workers",], told["taskfleet_workers_ready",]) == (2, 1)
    assert told["taskfleet_tasks_completed",] == 7
    assert told["taskfleet_workers_desired",] >= 1


def test_what_cannot_be_read_is_no_sample():
    told = read(build_observed(statistics=None, heartbeats=None))
    assert told["taskfleet_queue_statistics_available",] == 0
    names = {name for name, *_ in told}
    assert not names & {"taskfleet_queue_messages", "taskfleet_queue_wait_seconds", "taskfleet_workers_ready"}
    assert "taskfleet_worker_slots" not in names


@pytest.mark.parametrize(
    ("scaling", "annotations", "active"),
    [
        pytest.param({}, {}, 1, id="Active"),
        pytest.param({"mode": "DryRun"}, {}, 0, id="DryRun"),
        pytest.param({"mode": "External"}, {}, 0, id="External"),
        pytest.param({}, {"taskfleet.dev/paused": "true"}, 0, id="paused"),
    ],
)
def test_alerts_can_tell_whether_the_operator_scales(scaling, annotations, active):
    told = read(build_observed({"scaling": scaling}, annotations=annotations))
    assert told["taskfleet_scaling_active",] == active


def test_only_the_rule_by_wait_has_a_target_wait():
    assert read(build_observed())["taskfleet_queue_target_wait_seconds",] == 5
    by_depth = read(build_observed({"scaling": {"targetQueueDepth": 10}}))
    assert ("taskfleet_queue_target_wait_seconds",) not in by_depth


def test_decisions_are_counted_by_cause():
    samples = build_samples(build_observed(), None, {Cause.BACKLOG: 3, Cause.IDLE: 1}, {})
    counted = {sample.labels[2]: sample.value for sample in samples if sample.name == "taskfleet_scaling_decisions"}
    assert counted == {"backlog": 3, "idle": 1}


def test_each_of_several_queues_has_figures_of_its_own_and_the_workers_have_one_series():
    figures = {"q": build_statistics(3), "r": build_statistics(4, 1)}
    samples = list(build_samples(build_observed(statistics=build_statistics(7, 1)), None, {}, figures))
    ready = {sample.labels: sample.value for sample in samples if sample.name == "taskfleet_queue_messages"}
    assert ready[("team", "q", "ready")] == 3
    assert ready[("team", "r", "ready")] == 4
    assert [sample.labels for sample in samples if sample.name == "taskfleet_workers"] == [("team", "q")]
