"""Environment, settings, the generated copy, and what the injected part may not need."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import taskfleet_worker
from taskfleet_worker import _wire
from taskfleet_worker.environment import POOLS, build_command, build_environment
from taskfleet_worker.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted(Path(taskfleet_worker.__file__).parent.glob("*.py"))


def test_the_worker_reads_what_local_mode_writes() -> None:
    env = build_environment(
        queue="q",
        broker_url="amqp://u:p@h//",
        redis_url="redis://r/1",
        max_task_seconds=30,
        accept_content=["json", "yaml"],
        delivery_limit=4,
        host="h1",
        pod_uid="u1",
        health_file="/x",
        log_format="console",
    )
    settings = load_settings(env)
    assert (settings.queue, settings.redis_url, settings.host, settings.pod_uid) == ("q", "redis://r/1", "h1", "u1")
    assert (settings.max_task_seconds, settings.grace_seconds) == (30.0, 30.0)
    assert settings.accept_content == ("json", "yaml")
    assert (settings.delivery_limit, settings.health_file, settings.log_format) == (4, "/x", "console")
    assert env["CELERY_RESULT_BACKEND"] == "taskfleet_worker.backend.Backend+redis://r/1"
    assert {env[f"CELERY_BROKER_{kind}URL"] for kind in ("", "READ_", "WRITE_")} == {"amqp://u:p@h//"}


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "TASKFLEET_QUEUE"),
        ({"TASKFLEET_QUEUE": "q"}, "TASKFLEET_REDIS_URL"),
        ({"TASKFLEET_QUEUE": "q", "TASKFLEET_REDIS_URL": "redis://x", "TASKFLEET_GRACE_SECONDS": "soon"}, "GRACE"),
    ],
)
def test_what_is_missing_or_wrong_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        load_settings(environ)


@pytest.mark.parametrize("pool", POOLS)
def test_the_command_says_what_celery_reads_before_a_loader_can(pool: str) -> None:
    command = build_command("a.b:app", "q", 3, pool, python="py")
    assert command[:5] == ["py", "-m", "celery", "-A", "a.b:app"]
    joined = " ".join(command)
    # Celery would take the app's `worker_pool` in place of `-P prefork`.
    assert f"-Q q -c 3 -P {'processes' if pool == 'prefork' else pool}" in joined
    assert "--prefetch-multiplier 1" in joined


def test_an_unknown_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown pool 'eventlet'"):
        build_command("a", "q", 1, "eventlet")


def test_the_generated_copy_is_up_to_date() -> None:
    subprocess.run([sys.executable, str(ROOT / "hack/generate_wire.py"), "--check"], check=True, timeout=30)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_parse_on_python_39_and_import_nothing_of_ours(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
        assert not [name for name in names if name.split(".")[0] in {"taskfleet_core", "taskfleet_api", "taskfleet"}]


def test_annotations_are_never_evaluated_on_old_pythons() -> None:
    """`X | None` in an annotation is fine on 3.9 only as text."""
    for path in SOURCES:
        text = path.read_text()
        assert path.name in {"__init__.py", _wire.__name__.split(".")[-1] + ".py"} or (
            "from __future__ import annotations" in text
        ), path.name
