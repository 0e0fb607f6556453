"""compose.yaml says what the parts understand: services, ports, settings, commands and environment of workers."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskfleet_api.settings import ENVIRONMENT_PREFIX, Settings
from taskfleet_core.reference_settings import ReferenceSettings
from taskfleet_core.taskqueue import TaskQueue, load_task_queues
from taskfleet_worker.environment import build_command, build_environment

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
WORKERS = {name: service for name, service in SERVICES.items() if name.startswith("worker")}
OURS = [name for name in SERVICES if name not in ("rabbitmq", "postgres")]


def substitute(text: str) -> str:
    """What compose makes of the text with an empty .env: every variable has a default."""
    value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    assert "$" not in value, f"a variable without a default in {text}"
    return value


def load_queue(service: dict[str, Any]) -> TaskQueue:
    (volume,) = service["volumes"]
    (queue,) = load_task_queues(ROOT / volume.split(":")[0] / "taskqueue.yaml")
    return queue


def ports(service: str) -> set[str]:
    return {substitute(port) for port in SERVICES[service].get("ports", [])}


def test_the_services_and_ports_of_the_references_are_there() -> None:
    assert {"api", "queues", "worker", "flower", "rabbitmq", "valkey", "postgres"} <= set(SERVICES)
    assert ports("api") == {"127.0.0.1:8000:8000", "127.0.0.1:8080:8000"}
    assert ports("rabbitmq") == {"127.0.0.1:15672:15672"}  # AMQP stays inside
    assert ports("flower") == {"127.0.0.1:5555:5555"}
    assert ports("postgres") == {"127.0.0.1:5432:5432"}
    assert all(not ports(name) for name in WORKERS)


def test_flower_alone_is_behind_a_profile() -> None:
    assert {name: s["profiles"] for name, s in SERVICES.items() if "profiles" in s} == {"flower": ["flower"]}


def test_the_api_gets_only_settings_that_exist() -> None:
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields} | {"TASK_TIMEOUT"}
    assert set(SERVICES["api"]["environment"]) <= known


def test_the_settings_accept_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["api"]["environment"].items():
        monkeypatch.setenv(name, substitute(value))
    settings = Settings()
    assert settings.references == ("000", "001", "002", "003", "004")
    assert settings.database_url.get_secret_value().startswith("postgresql://")


def test_all_queues_are_announced_and_have_a_worker() -> None:
    folders = {path.parent.name for path in ROOT.glob("examples/*/taskqueue.yaml")}
    announced = {Path(word).parent.name for word in SERVICES["queues"]["command"] if word.startswith("/")}
    served = {Path(service["volumes"][0].split(":")[0]).name for service in WORKERS.values()}
    assert announced == served == folders


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_a_worker_is_started_as_local_mode_starts_it(name: str) -> None:
    service, queue = WORKERS[name], load_queue(WORKERS[name])
    worker = queue.spec.worker
    expected = build_command(worker.app, queue.queue_name, worker.concurrency, worker.pool, events=True)
    assert ["celery", *(substitute(word) for word in service["command"])] == expected


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_a_worker_has_the_environment_that_local_mode_gives_it(name: str) -> None:
    queue = load_queue(WORKERS[name])
    environment = {key: substitute(value) for key, value in WORKERS[name]["environment"].items()}
    assert environment == build_environment(
        queue=queue.queue_name,
        broker_url="amqp://guest:guest@rabbitmq:5672//",
        redis_url="redis://valkey:6379/0",
        max_task_seconds=queue.spec.worker.max_task_seconds,
        grace_seconds=queue.spec.worker.effective_grace_seconds,
        delivery_limit=queue.spec.delivery.limit,
        health_file="/tmp/taskfleet-health",
        log_format="console",
    )


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_a_worker_may_finish_its_tasks_before_it_is_killed(name: str) -> None:
    seconds = int(WORKERS[name]["stop_grace_period"].removesuffix("s"))
    assert seconds > load_queue(WORKERS[name]).spec.worker.effective_grace_seconds


@pytest.mark.parametrize("name", OURS)
def test_containers_are_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]


def test_the_example_environment_shows_every_variable_with_its_default() -> None:
    text = (ROOT / "compose.yaml").read_text()
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    lines = [line for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")]
    assert dict(line.split("=", 1) for line in lines) == used


def test_the_names_of_reference_001_are_all_there() -> None:
    names = {field.alias or name for name, field in ReferenceSettings.model_fields.items()}
    assert names <= {line.split("=")[0] for line in (ROOT / ".env.example").read_text().splitlines()}


@pytest.mark.parametrize("path", ["api/Dockerfile", "worker/Dockerfile"])
def test_images_take_a_base_pin_hashes_and_do_not_run_as_root(path: str) -> None:
    text = (ROOT / path).read_text()
    assert "ARG BASE_IMAGE=docker.io/library/python:3.13-slim" in text
    assert text.count("--require-hashes") == 2
    assert re.search(r"^USER (\d+):\d+$", text, re.MULTILINE)
    assert "HEALTHCHECK" in text
