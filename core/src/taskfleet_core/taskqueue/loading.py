"""Reads TaskQueues from YAML files, as local mode and the examples keep them."""

from pathlib import Path

from taskfleet_core.documents import load_documents
from taskfleet_core.errors import FieldError, InvalidInputError
from taskfleet_core.taskqueue.document import TaskQueue
from taskfleet_core.taskqueue.names import GROUP, PATTERN_FIXES, POLICY_KIND

__all__ = ["load_task_queues"]


def load_task_queues(path: Path | str) -> list[TaskQueue]:
    """The TaskQueues of a YAML file, in its order; documents of other kinds are passed over.

    Raises InvalidInputError with one line per fault: file, line, field and fix.
    """
    path = Path(path)
    queues: list[TaskQueue] = []
    first_line: dict[tuple[str, str], int] = {}
    for queue, line in load_documents(path, TaskQueue, group=GROUP, pattern_fixes=PATTERN_FIXES, others=(POLICY_KIND,)):
        names = [("spec.queueName", name) for name in queue.queue_weights]
        for field, value in (("metadata.name", queue.name), *names):
            earlier = first_line.setdefault((field, value), line)
            if earlier != line:
                fix = f"{value!r} is taken by the document at line {earlier}: choose another"
                pointer = "#/" + field.replace(".", "/")
                raise InvalidInputError(f"{path}:{line}: {field}: {fix}", (FieldError(pointer, fix),))
        queues.append(queue)
    return queues
