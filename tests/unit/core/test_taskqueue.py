"""TaskQueue documents: defaults, rules and the errors of files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from taskfleet_core import taskqueue
from taskfleet_core.errors import InvalidInputError
from taskfleet_core.registrations import build_registrations
from taskfleet_core.scaling import Pace
from taskfleet_core.taskqueue import TaskQueue, load_task_queues
from taskfleet_core.topology import build_queue_specs

GOOD = """\
apiVersion: taskfleet.dev/v1alpha1
kind: TaskQueue
metadata: {name: thumbnails}
spec:
  worker: {image: registry.example/thumbs:1.4, app: "thumbs.celery:app"}
"""


def build(**spec: Any) -> TaskQueue:
    """A TaskQueue with the least that is needed, and `spec`."""
    return TaskQueue.model_validate(
        {
            "apiVersion": "taskfleet.dev/v1alpha1",
            "kind": "TaskQueue",
            "metadata": {"name": "q"},
            "spec": {"worker": {"app": "a:b"}} | spec,
        }
    )


def write(folder: Path, text: str) -> Path:
    """A file with the text."""
    path = folder / "queue.yaml"
    path.write_text(text)
    return path


def models() -> Iterator[type[BaseModel]]:
    """Every model of the document."""
    for name in taskqueue.__all__:
        found = getattr(taskqueue, name)
        if isinstance(found, type) and issubclass(found, BaseModel):
            yield found


def test_defaults_are_those_of_the_design() -> None:
    queue = build()
    assert queue.queue_name == "q"
    assert queue.spec.worker.effective_grace_seconds == queue.spec.worker.max_task_seconds == 3600
    assert queue.spec.model_dump(by_alias=True, exclude={"worker"}) == {
        "queueName": None,
        "queues": [],
        "broker": None,
        "delivery": {"limit": 5, "deadLetter": True, "maxLength": None, "messageTTLSeconds": None},
        "scaling": {
            "minReplicas": 0,
            "maxReplicas": 50,
            "targetWaitSeconds": 5,
            "targetQueueDepth": None,
            "idleSeconds": 60,
            "replicas": None,
            "priority": 0,
            "scaleUp": None,
            "scaleDown": None,
            "schedules": [],
            "mode": "Active",
        },
    }


def test_paces_reach_the_rule() -> None:
    spec = build(scaling={"scaleUp": {"replicas": 4, "periodSeconds": 15}, "scaleDown": {"replicas": 1}})
    built = spec.build_scaling_spec()
    assert (built.scale_up, built.scale_down) == (Pace(4, 15), Pace(1, 60))


@pytest.mark.parametrize("model", list(models()), ids=lambda model: model.__name__)
def test_every_field_is_described(model: type[BaseModel]) -> None:
    assert all(field.description for field in model.model_fields.values())
    assert model.__doc__


def test_every_rule_blames_a_field_that_exists() -> None:
    for model in models():
        aliases = {field.alias for field in model.model_fields.values()}
        assert {rule.field for rule in getattr(model, "RULES", ())} <= aliases


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        pytest.param({"scaling": {"minReplicas": 3, "maxReplicas": 2}}, "scaling", id="min over max"),
        pytest.param({"worker": {"app": "a:b", "pool": "solo", "concurrency": 2}}, "worker", id="solo with two slots"),
        pytest.param({"worker": {"app": "a:b", "env": [{"value": "x"}]}}, "worker", id="env without a name"),
        pytest.param({"worker": {"app": "a:b", "env": [{"name": "CELERY_BROKER_URL"}]}}, "worker", id="reserved env"),
        pytest.param({"queueName": "x.dead"}, "queueName", id="name of a dead-letter queue"),
        pytest.param({"queueName": "a/b"}, "queueName", id="name that needs escaping"),
        pytest.param({"queueName": "a", "queues": [{"name": "a"}]}, "beside queueName", id="queueName and queues"),
        pytest.param({"queues": [{"name": "a"}, {"name": "a"}]}, "twice", id="a queue twice"),
        pytest.param({"queues": [{"name": "a.dead"}]}, "names must not end", id="a dead-letter queue of several"),
        pytest.param({"queues": [{"name": "a", "weight": 0}]}, "weight", id="no weight"),
        pytest.param({"queues": [{"name": f"q{n}"} for n in range(17)]}, "queues", id="too many queues"),
        pytest.param({"worker": {"app": "a b"}}, "app", id="app that is no path"),
        pytest.param({"worker": {"app": "a:b.c"}}, "app", id="app that Celery could not find"),
        pytest.param({"scaling": {"replicas": "3"}}, "replicas", id="text for a number"),
        pytest.param({"scaling": {"schedules": [{"cron": "* *"}]}}, "cron", id="cron of two fields"),
        pytest.param({"delivery": {"messageTtlSeconds": 3}}, "messageTtlSeconds", id="other spelling"),
    ],
)
def test_bad_spec_is_refused(spec: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        build(**spec)
    assert path in str(caught.value)


def test_files_hold_several_documents_and_other_kinds(tmp_path: Path) -> None:
    text = "kind: Namespace\napiVersion: v1\n---\n" + GOOD + "---\n" + GOOD.replace("thumbnails", "mails")
    assert [queue.name for queue in load_task_queues(write(tmp_path, text))] == ["thumbnails", "mails"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "holds no TaskQueue (it is empty)", id="empty file"),
        pytest.param("kind: Pod\napiVersion: v1\n", "holds no TaskQueue (found: Pod)", id="other kinds only"),
        pytest.param("- a\n- b\n", "holds no TaskQueue (found: list)", id="a list"),
        pytest.param("a: [\n", ":2: is no valid YAML", id="broken YAML"),
        pytest.param("a: \x01\n", "is no valid YAML", id="control character"),
        pytest.param(
            GOOD.replace("  worker", "  maxReplicas: 3\n  worker"),
            ":5: spec.maxReplicas: is no known field: it belongs at spec.scaling.maxReplicas",
            id="field at the wrong level",
        ),
        pytest.param(GOOD.replace("image", "imgae"), "worker.imgae: is no known field: did you mean image", id="typo"),
        pytest.param(GOOD.replace("app: ", "pool: "), "spec.worker.app: is required: add it", id="missing field"),
        pytest.param(GOOD + "  scaling: {minReplicas: 9, maxReplicas: 3}\n",
            ":6: spec.scaling.minReplicas: must not exceed maxReplicas: lower it or raise maxReplicas", id="rule"),
        pytest.param(GOOD + "  scaling: 3\n", ":6: spec.scaling: must be a mapping of fields, is 3", id="no mapping"),
        pytest.param(GOOD.replace("thumbnails", "Thumb_nails"), "use lower-case letters", id="name"),
        pytest.param(GOOD + "---\n" + GOOD, "'thumbnails' is taken by the document at line 1", id="twice"),
        pytest.param(GOOD.replace("v1alpha1", "v9"), ":1: apiVersion: is 'taskfleet.dev/v9', must be", id="version"),
        pytest.param("kind: TaskQueue\n", "apiVersion: is required", id="kind alone"),
    ],
)  # fmt: skip
def test_fault_of_a_file_names_line_field_and_fix(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidInputError) as caught:
        load_task_queues(path)
    assert str(caught.value).startswith(str(path))
    assert expected in str(caught.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_task_queues(write(tmp_path, GOOD.replace("app: ", "ap: ") + "  scaling: {idleSeconds: -1, mode: Off}\n"))
    assert {error.pointer for error in caught.value.errors} == {
        "#/spec/worker/app",
        "#/spec/worker/ap",
        "#/spec/scaling/idleSeconds",
        "#/spec/scaling/mode",
    }


def test_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_task_queues(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("{cron: '61 * * * *'}", "spec.scaling.schedules[0].cron: '61 * * * *' is no cron expression"),
        (
            "{cron: '0 7 * * *', timeZone: Berlin}",
            "schedules[0].timeZone: 'Berlin' is no time zone: write an IANA name",
        ),
    ],
)
def test_bad_schedule_is_refused(tmp_path: Path, schedule: str, expected: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_task_queues(write(tmp_path, GOOD + f"  scaling: {{schedules: [{schedule}]}}\n"))
    assert expected in str(caught.value)


def test_several_queues_share_workers_and_rules_and_each_is_announced() -> None:
    queue = build(queues=[{"name": "urgent", "weight": 3}, {"name": "bulk"}], delivery={"limit": 2})
    assert (queue.queue_name, queue.queue_weights) == ("urgent", {"urgent": 3, "bulk": 1})
    assert [(spec.name, spec.delivery_limit) for spec in build_queue_specs(queue)] == [("urgent", 2), ("bulk", 2)]
    entries = build_registrations(queue, 1.0, source="test")
    assert [entry["queueName"] for entry in entries] == ["urgent", "bulk"]
    assert {entry["name"] for entry in entries} == {"q"}


def test_the_documented_task_queue_of_several_queues_is_one() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "scaling-operations.md").read_text()
    (block,) = re.findall(r"^```yaml\n(apiVersion: taskfleet.*?)^```$", text, re.M | re.S)
    assert TaskQueue.model_validate(yaml.safe_load(block)).queue_weights == {"mail-urgent": 3, "mail-bulk": 1}
