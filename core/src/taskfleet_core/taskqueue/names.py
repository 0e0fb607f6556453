"""Names and patterns of the TaskQueue document, and what to write instead of a name that does not fit."""

from typing import Annotated

from pydantic import StringConstraints

__all__ = [
    "API_VERSION",
    "APP_PATTERN",
    "CRON_PATTERN",
    "GROUP",
    "KIND",
    "MAX_QUEUES",
    "MAX_TARGETS",
    "NAME_MAX_LENGTH",
    "OBJECT_NAME_PATTERN",
    "PATTERN_FIXES",
    "POLICY_KIND",
    "QUEUE_NAME_PATTERN",
    "RESERVED_PATTERN",
    "AppPath",
    "Cron",
    "ObjectName",
    "QueueName",
]

GROUP = "taskfleet.dev"
API_VERSION = "taskfleet.dev/v1alpha1"
KIND = "TaskQueue"
POLICY_KIND = "TaskQueuePolicy"  # see policy.py
MAX_TARGETS = 64  # queues that a pool of workers sends to
MAX_QUEUES = 16  # that one pool of workers serves
NAME_MAX_LENGTH = 52  # leaves room for the suffixes of child objects in 63 characters

OBJECT_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
QUEUE_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
APP_PATTERN = r"^[A-Za-z_]\w*(\.\w+)*(:[A-Za-z_]\w*)?$"  # Celery looks for one attribute only
CRON_PATTERN = r"^\s*\S+(\s+\S+){4}\s*$"
RESERVED_PATTERN = r"^(TASKFLEET_.*|CELERY_(BROKER_((READ|WRITE)_)?URL|LOADER|RESULT_BACKEND))$"
PATTERN_FIXES = {
    OBJECT_NAME_PATTERN: "is no object name: use lower-case letters, digits and inner dashes",
    QUEUE_NAME_PATTERN: "is no queue name: begin with a letter or digit, go on with those, dots, dashes, underscores",
    APP_PATTERN: "is no Celery application: write package.module:attribute, as for celery -A",
    CRON_PATTERN: "is no cron expression: write five fields, such as '0 7 * * 1-5'",
}
ObjectName = Annotated[str, StringConstraints(pattern=OBJECT_NAME_PATTERN, max_length=NAME_MAX_LENGTH)]
QueueName = Annotated[str, StringConstraints(pattern=QUEUE_NAME_PATTERN, max_length=200)]
AppPath = Annotated[str, StringConstraints(pattern=APP_PATTERN)]
Cron = Annotated[str, StringConstraints(pattern=CRON_PATTERN)]
