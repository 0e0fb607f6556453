"""How each process of local mode is started: its command and its environment."""

import sys
from pathlib import Path

from taskfleet.local.options import Folders, UpOptions
from taskfleet.local.processes import Child, start_child
from taskfleet_core.errors import InvalidInputError
from taskfleet_core.taskqueue import TaskQueue
from taskfleet_worker.environment import build_command, build_environment

__all__ = ["DIRECTORY_ANNOTATION", "FLOWER_PORT", "PYTHON_ANNOTATION", "Launcher", "find_directory", "find_python"]

DIRECTORY_ANNOTATION = "taskfleet.dev/directory"
PYTHON_ANNOTATION = "taskfleet.dev/python"
FLOWER_PORT = 5555
REFERENCES = "000,001,002,003,004"


def find_directory(queue: TaskQueue, file: Path) -> Path:
    """The folder in which the workers run. Raises InvalidInputError when it does not exist."""
    named = queue.metadata.annotations.get(DIRECTORY_ANNOTATION)
    folder = (file.parent / named if named else file.parent).resolve()
    if not folder.is_dir():
        raise InvalidInputError(
            f"{file}: metadata.annotations[{DIRECTORY_ANNOTATION}]: {folder} is no folder: name the one with the app"
        )
    return folder


def find_python(queue: TaskQueue, file: Path) -> str:
    """The interpreter of the workers: that of an annotation, such as `.venv/bin/python`, or our own."""
    named = queue.metadata.annotations.get(PYTHON_ANNOTATION)
    if named is None:
        return sys.executable
    path = (find_directory(queue, file) / named).absolute()  # not resolved: a virtual environment is a link
    if not path.is_file():
        raise InvalidInputError(
            f"{file}: metadata.annotations[{PYTHON_ANNOTATION}]: {path} is no file: name the app's interpreter"
        )
    return str(path)


def describe_environment_gaps(queue: TaskQueue) -> list[str]:
    """What of the worker's environment cannot be had without Kubernetes."""
    gaps = [str(entry["name"]) for entry in queue.spec.worker.env if "valueFrom" in entry]
    return gaps + ["envFrom"] * bool(queue.spec.worker.env_from)


class Launcher:
    """Knows the addresses and starts processes with them."""

    def __init__(self, options: UpOptions, folders: Folders, *, broker_url: str, redis_url: str) -> None:
        self._options, self._folders = options, folders
        self.broker_url, self.redis_url = broker_url, redis_url
        self.database_url = options.database_url or f"sqlite:///{folders.database}"

    def start_api(self) -> Child:
        """The API with its background services."""
        options = self._options
        values = {
            "HOST": options.host,
            "PORT": str(options.port),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "BROKER_URL": self.broker_url,
            "BROKER_MANAGEMENT_URL": options.broker_management_url,
            "BROKER_METRICS_URL": options.broker_metrics_url,
            "REFERENCES": REFERENCES if options.references else None,
            "LOG_FORMAT": "console",
        }
        environment = {f"TASKFLEET_API_{name}": value for name, value in values.items() if value is not None}
        return start_child(
            "api",
            "api",
            [sys.executable, "-m", "taskfleet_api"],
            data=self._folders.root,
            log=self._folders.logs / "api.log",
            environment={"NO_COLOR": "1", **environment},
        )

    def start_flower(self) -> Child:
        """Flower on its usual port; the broker's address goes by the environment, where `ps` does not show it."""
        environment = {"CELERY_BROKER_URL": self.broker_url, "FLOWER_UNAUTHENTICATED_API": "true"}
        if self._options.broker_management_url:
            environment["FLOWER_BROKER_API"] = self._options.broker_management_url.rstrip("/") + "/api/"
        command = [sys.executable, "-m", "celery", "flower", "--address=127.0.0.1", f"--port={FLOWER_PORT}"]
        return start_child(
            "flower",
            "flower",
            command,
            data=self._folders.root,
            log=self._folders.logs / "flower.log",
            environment=environment,
        )

    def start_worker(self, queue: TaskQueue, file: Path, host: str) -> Child:
        """One worker process of a TaskQueue: what a pod is on Kubernetes."""
        spec = queue.spec
        environment = {str(entry["name"]): str(entry["value"]) for entry in spec.worker.env if "value" in entry}
        environment |= build_environment(
            queue=queue.queue_weights,
            broker_url=self.broker_url,
            redis_url=self.redis_url,
            max_task_seconds=spec.worker.max_task_seconds,
            grace_seconds=spec.worker.effective_grace_seconds,
            accept_content=spec.worker.accept_content,
            delivery_limit=spec.delivery.limit,
            host=host,
            log_format="console",
        )
        python = find_python(queue, file)
        if python != sys.executable:
            environment["PYTHONPATH"] = str(self._ensure_injection())
        command = build_command(
            spec.worker.app,
            queue.queue_weights,
            spec.worker.concurrency,
            spec.worker.pool,
            python=python,
            host=host,
            events=self._options.flower,
        )
        return start_child(
            "worker",
            host,
            command,
            data=self._folders.root,
            log=self._folders.logs / f"{queue.name}.log",
            environment=environment,
            cwd=find_directory(queue, file),
        )

    def _ensure_injection(self) -> Path:
        """A folder with nothing but our worker package, for interpreters that do not have it."""
        import taskfleet_worker

        folder = self._folders.root / "inject"
        folder.mkdir(exist_ok=True)
        link, package = folder / "taskfleet_worker", Path(taskfleet_worker.__file__ or "").parent
        if not link.is_symlink() or link.resolve() != package.resolve():
            link.unlink(missing_ok=True)
            link.symlink_to(package, target_is_directory=True)
        return folder
