"""Tasks on a cluster that note each of their runs in the store, as the test app does."""

import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["NOTES", "Load", "Runs"]

NOTES = "taskfleet:task:runs:"  # what stands before a load's marker in the name of its list


@dataclass
class Load:
    """Tasks that were accepted; `marker` is in their metadata and names the list in which they note their runs."""

    marker: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Runs:
    """What the tasks themselves noted in Valkey."""

    started: Counter[str]
    ended: Counter[str]
    pods: Mapping[str, str]

    @property
    def interrupted(self) -> list[str]:
        """Runs that began and did not come to their end."""
        return sorted((self.started - self.ended).elements())

    @property
    def repeated(self) -> list[str]:
        """Tasks that began more than once."""
        return sorted(task_id for task_id, count in self.started.items() if count > 1)
