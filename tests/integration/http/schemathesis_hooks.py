"""Loaded by the schemathesis process: sends what is valid to a queue that exists."""

import schemathesis
import schemathesis_formats  # noqa: F401 - registers the formats

QUEUE = "jobs"


@schemathesis.hook
def map_body(context, body):
    """Without this nearly every body would end at its unknown queue. What is invalid stays as it is.

    A batch with good and bad items is accepted in part, which the checks cannot know: only single ones get the queue.
    """
    items = body if isinstance(body, list) and len(body) == 1 else [body]
    for item in items:
        if isinstance(item, dict) and _is_name(item.get("queue")):
            item["queue"] = QUEUE
    return body


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    """As above, for the queues in paths."""
    if path_parameters and _is_name(path_parameters.get("name")):
        path_parameters["name"] = QUEUE
    return path_parameters


def _is_name(value):
    return isinstance(value, str) and 0 < len(value) <= 255 and all(ord(char) > 31 and char != "\x7f" for char in value)
