"""What an API key is good for."""

from enum import StrEnum

__all__ = ["KeyScope"]


class KeyScope(StrEnum):
    """What a key is good for. ADMIN includes the others."""

    SUBMIT = "submit"  # tasks, retries and schedules
    READ = "read"
    CANCEL = "cancel"
    ADMIN = "admin"  # dead letters; with all queues also keys
