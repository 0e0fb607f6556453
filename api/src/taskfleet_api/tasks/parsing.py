"""From a body to a submission: a fast path for what is plainly right, a precise one for everything else. Pure.

The fast path answers only what the precise path would answer too; where it is not sure it returns None.
"""

import hashlib
from typing import Annotated, Any

import msgspec
from pydantic import ValidationError

from taskfleet_api.callbacks.policy import MAX_URL_LENGTH
from taskfleet_api.records.labels import build_labels
from taskfleet_api.records.model import RetryPolicy
from taskfleet_api.tasks import schemas
from taskfleet_api.tasks.json_text import escape_pointer, is_too_deep, may_hold_nul, parse_members, parse_value
from taskfleet_api.tasks.model import NewSubmission
from taskfleet_core.errors import FieldError, InvalidInputError

__all__ = [
    "escape_pointer",
    "parse_fast",
    "parse_precise",
    "parse_precise_item",
]

_NULL = msgspec.Raw(b"null")
_EMPTY_ARRAY = msgspec.Raw(b"[]")
_EMPTY_OBJECT = msgspec.Raw(b"{}")

_Delay = Annotated[float, msgspec.Meta(ge=0, le=schemas.LONGEST_DELAY_SECONDS)]


class FastRetry(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """`RetryRules` for the fast path."""

    max_attempts: Annotated[int, msgspec.Meta(ge=1, le=schemas.MOST_ATTEMPTS)]
    backoff_seconds: _Delay = 1.0
    max_backoff_seconds: _Delay = 300.0
    jitter: bool = True


class FastTask(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """`TaskSubmission` for the fast path; times are left to the precise one."""

    queue: Annotated[str, msgspec.Meta(min_length=1, max_length=schemas.NAME_MAX)]
    task: Annotated[str, msgspec.Meta(min_length=1, max_length=schemas.NAME_MAX)]
    args: msgspec.Raw = _EMPTY_ARRAY
    kwargs: msgspec.Raw = _EMPTY_OBJECT
    metadata: msgspec.Raw = _NULL
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] | None = None
    countdown_seconds: _Delay | None = None
    ttl_seconds: Annotated[float, msgspec.Meta(gt=0, le=schemas.LONGEST_DELAY_SECONDS)] | None = None
    retry: FastRetry | None = None
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=schemas.LONGEST_TASK_SECONDS)] | None = None
    callback_url: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_URL_LENGTH)] | None = None


_fast_decoder = msgspec.json.Decoder(FastTask)
# Reading everything once refuses at 0.7 us what must be refused: bad Unicode, numbers out of range, broken syntax.
_strict_decoder = msgspec.json.Decoder()


def parse_fast(body: bytes, max_depth: int) -> NewSubmission | None:
    """The submission, or None where the precise path has to look."""
    if is_too_deep(body, max_depth):
        return None
    try:
        return _build_fast_submission(_fast_decoder.decode(body), _strict_decoder.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _build_fast_submission(item: FastTask, values: dict[str, Any]) -> NewSubmission | None:
    """The submission of an item, decoded in both ways, that is not too deep; None where it is not plainly right."""
    args, kwargs, metadata = bytes(item.args), bytes(item.kwargs), values.get("metadata")
    if args[:1] != b"[" or kwargs[:1] != b"{" or not item.task.isprintable() or not item.queue.isprintable():
        return None
    if metadata is not None and (not isinstance(metadata, dict) or len(metadata) > schemas.MOST_METADATA):
        return None
    if may_hold_nul(args) or may_hold_nul(kwargs) or (metadata is not None and may_hold_nul(bytes(item.metadata))):
        return None
    return NewSubmission(
        queue=item.queue,
        task=item.task,
        args_json=args.decode(),
        kwargs_json=kwargs.decode(),
        metadata_json=None if metadata is None else bytes(item.metadata).decode(),
        labels=build_labels(metadata) if metadata else (),
        priority=item.priority,
        countdown_seconds=item.countdown_seconds,
        ttl_seconds=item.ttl_seconds,
        retry=_build_policy(item.retry),
        timeout_seconds=item.timeout_seconds,
        callback_url=item.callback_url,
    )


def _build_policy(rules: FastRetry | schemas.RetryRules | None) -> RetryPolicy | None:
    if rules is None:
        return None
    return RetryPolicy(rules.max_attempts, rules.backoff_seconds, rules.max_backoff_seconds, rules.jitter)


def parse_precise(body: bytes, max_depth: int) -> NewSubmission:
    """The submission; raises MalformedBodyError, or InvalidInputError with a pointer to each wrong member."""
    members = parse_members(body, max_depth)
    return _build_submission(members, schemas.TaskSubmission, "#")


def parse_precise_item(text: bytes, max_depth: int, pointer: str) -> NewSubmission:
    """One item of a batch, with its own idempotency key if it has one."""
    members = parse_members(text, max_depth, pointer)
    submission = _build_submission(members, schemas.BatchItem, pointer)
    if submission.idempotency_key is None:
        return submission
    return msgspec.structs.replace(submission, body_hash=hashlib.sha256(text).digest())


def _build_submission(members: dict[str, bytes], model: type[schemas.TaskSubmission], pointer: str) -> NewSubmission:
    values = {name: parse_value(text, f"{pointer}/{escape_pointer(name)}") for name, text in members.items()}
    try:
        checked = model.model_validate(values)
    except ValidationError as error:
        raise InvalidInputError("The input is not valid.", build_field_errors(error, pointer)) from error
    metadata = checked.metadata
    return NewSubmission(
        queue=checked.queue,
        task=checked.task,
        args_json=members.get("args", b"[]").decode(),
        kwargs_json=members.get("kwargs", b"{}").decode(),
        metadata_json=None if metadata is None else members["metadata"].decode(),
        labels=build_labels(metadata),
        priority=checked.priority,
        eta=checked.eta,
        countdown_seconds=checked.countdown_seconds,
        expires_at=checked.expires_at,
        ttl_seconds=checked.ttl_seconds,
        retry=_build_policy(checked.retry),
        timeout_seconds=checked.timeout_seconds,
        callback_url=checked.callback_url,
        idempotency_key=getattr(checked, "idempotency_key", None),
    )


def build_field_errors(error: ValidationError, pointer: str = "#") -> tuple[FieldError, ...]:
    """pydantic's findings as pointers and plain sentences."""
    return tuple(
        FieldError(join_pointer(pointer, found["loc"]), describe_finding(found["type"], found["msg"]))
        for found in error.errors(include_url=False, include_input=False, include_context=False)
    )


def describe_finding(kind: str, message: str) -> str:
    """One finding of pydantic in plain words."""
    if kind == "missing":
        return "This member is required."
    if kind == "extra_forbidden":
        return "There is no such member."
    if kind == "timezone_aware":
        return "The time needs its zone: end it with Z, or with an offset such as +02:00."
    return message.removeprefix("Value error, ").removesuffix(".") + "."


def join_pointer(pointer: str, location: tuple[Any, ...]) -> str:
    """A JSON pointer below another one."""
    return pointer + "".join(f"/{escape_pointer(str(part))}" for part in location)
