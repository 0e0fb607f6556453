"""The TaskQueue files of local mode: found, loaded, checked against one another, and watched for changes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskfleet.local.launching import find_directory, find_python
from taskfleet_core.errors import InvalidInputError
from taskfleet_core.taskqueue import TaskQueue, load_task_queues

__all__ = ["FileWatch", "LoadedQueue", "find_files", "load_queues"]

DEFAULT_FILE = Path("taskqueue.yaml")


@dataclass(frozen=True, slots=True)
class LoadedQueue:
    """A TaskQueue and the file that it came from."""

    queue: TaskQueue
    file: Path


def find_files(named: Sequence[Path]) -> list[Path]:
    """The files to load: those named, the YAML files of folders that are named, or taskqueue.yaml if it is there."""
    if not named:
        return [DEFAULT_FILE] if DEFAULT_FILE.exists() else []
    found: list[Path] = []
    for path in named:
        inside = sorted(path.glob("*.y*ml")) if path.is_dir() else [path]
        if not inside:
            raise InvalidInputError(f"--file {path}: holds no YAML file: name a TaskQueue file, or a folder with some")
        found += inside
    return list(dict.fromkeys(found))


def load_queues(files: Iterable[Path]) -> list[LoadedQueue]:
    """All TaskQueues of the files. Raises InvalidInputError with the faults of all files."""
    loaded: list[LoadedQueue] = []
    faults: list[str] = []
    taken: dict[tuple[str, str], Path] = {}
    for file in files:
        try:
            for queue in load_task_queues(file):
                faults += _check_local(queue, file)
                names = [("spec.queueName", name) for name in queue.queue_weights]
                for field, value in (("metadata.name", queue.name), *names):
                    other = taken.setdefault((field, value), file)
                    if other != file:
                        faults.append(f"{file}: {field}: {value!r} is taken by {other}: choose another")
                loaded.append(LoadedQueue(queue, file))
        except InvalidInputError as error:
            faults.append(str(error))
    if faults:
        raise InvalidInputError("\n".join(faults))
    return loaded


def _check_local(queue: TaskQueue, file: Path) -> list[str]:
    faults = []
    if queue.spec.broker is not None:
        faults.append(f"{file}: spec.broker: a Secret cannot be read here: remove it and name the broker by --broker")
    for check in (find_directory, find_python):
        try:
            check(queue, file)
        except InvalidInputError as error:
            faults.append(str(error))
    return faults


class FileWatch:
    """Tells when one of the files was changed."""

    def __init__(self, named: Sequence[Path]) -> None:
        self._named = named
        self._seen = self._look()

    def has_changed(self) -> bool:
        """Whether something was written, added or removed since the last call."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self) -> dict[Path, int]:
        try:
            return {path: path.stat().st_mtime_ns for path in find_files(self._named)}
        except (InvalidInputError, OSError):
            return {}
