"""Batches: from an array or lines to submissions, and from outcomes to an answer for each item."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from taskfleet_api.problems import MalformedBodyError, PayloadTooLargeError, build_problem
from taskfleet_api.settings import Settings
from taskfleet_api.tasks.json_text import parse_value
from taskfleet_api.tasks.model import NewSubmission, SubmittedTask
from taskfleet_api.tasks.parsing import parse_fast, parse_precise_item
from taskfleet_api.tasks.rendering import render_submitted
from taskfleet_core.errors import FieldError, InvalidInputError, TaskfleetError

__all__ = ["BatchHeaders", "build_batch_answer", "parse_batch", "prefix_pointers", "split_array", "split_lines"]

# An item of many small arrays takes as long as ten thousand plain ones: time counts, not items.
MOST_SECONDS_AT_ONCE = 0.01
_array_decoder = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class BatchHeaders:
    """What headers and query say about every item."""

    principal: str
    traceparent: str | None = None
    idempotency_key: str | None = None
    callback_url: str | None = None  # of items that name none


def split_array(body: bytes) -> list[bytes]:
    """The items of a JSON array as text. Raises MalformedBodyError and InvalidInputError."""
    try:
        return [bytes(item) for item in _array_decoder.decode(body)]
    except msgspec.ValidationError as error:
        raise InvalidInputError("The input is not valid.", (FieldError("#", "The body must be an array."),)) from error
    except RecursionError as error:
        raise InvalidInputError("The input is not valid.", (FieldError("#", "The body nests too deep."),)) from error
    except msgspec.DecodeError as error:
        _explain(body)
        raise MalformedBodyError(f"{error}.") from error


def _explain(body: bytes) -> None:
    try:
        parse_value(body, "#")
    except RecursionError as error:
        raise InvalidInputError("The input is not valid.", (FieldError("#", "The body nests too deep."),)) from error


def split_lines(body: bytes) -> list[bytes]:
    """The items of NDJSON as text; empty lines do not count."""
    return [line for line in body.split(b"\n") if line.strip()]


async def parse_batch(
    items: Sequence[bytes], headers: BatchHeaders, body: bytes, settings: Settings
) -> list[NewSubmission | TaskfleetError]:
    """Each item's submission or its error. Lets others run in between: a full batch takes a while.

    Raises PayloadTooLargeError for too many items and InvalidInputError for none.
    """
    if len(items) > settings.max_batch_items:
        raise PayloadTooLargeError(f"A batch may have at most {settings.max_batch_items} items.")
    if not items:
        raise InvalidInputError("The input is not valid.", (FieldError("#", "The batch has no items."),))
    body_hash = hashlib.sha256(body).digest() if headers.idempotency_key else None
    parsed: list[NewSubmission | TaskfleetError] = []
    begun = time.perf_counter()
    for index, text in enumerate(items):
        if time.perf_counter() - begun > MOST_SECONDS_AT_ONCE:
            await asyncio.sleep(0)
            begun = time.perf_counter()
        parsed.append(_parse_item(index, text, headers, body_hash, settings))
    return parsed


def _parse_item(
    index: int, text: bytes, headers: BatchHeaders, body_hash: bytes | None, settings: Settings
) -> NewSubmission | TaskfleetError:
    if len(text) > settings.max_item_bytes:
        return PayloadTooLargeError(
            f"An item may have at most {settings.max_item_bytes} bytes: pass large data by reference."
        )
    try:
        depth = settings.max_json_depth
        submission = parse_fast(text, depth) or parse_precise_item(text, depth, "#")
    except TaskfleetError as error:
        return error
    key, digest = submission.idempotency_key, submission.body_hash
    if headers.idempotency_key is not None and key is None:
        # No key of a caller holds a space, so the items of batches never meet other keys.
        key, digest = f"{headers.idempotency_key} {index}", body_hash
    callback_url = submission.callback_url or headers.callback_url
    is_complete = headers.principal == submission.principal and callback_url == submission.callback_url
    if key is None and headers.traceparent is None and is_complete:
        return submission
    return msgspec.structs.replace(
        submission,
        principal=headers.principal,
        traceparent=headers.traceparent,
        idempotency_key=key,
        body_hash=digest,
        callback_url=callback_url,
    )


def build_batch_answer(settled: Sequence[SubmittedTask | TaskfleetError]) -> dict[str, Any]:
    """The body of the answer: counts, and what became of each item in the order of the request."""
    items = [_build_item(outcome) for outcome in settled]
    accepted = sum(isinstance(outcome, SubmittedTask) for outcome in settled)
    return {"accepted": accepted, "refused": len(items) - accepted, "items": items}


def _build_item(outcome: SubmittedTask | TaskfleetError) -> msgspec.Raw | dict[str, Any]:
    if isinstance(outcome, SubmittedTask):
        start = b'{"status":202,"replayed":true,' if outcome.replayed else b'{"status":202,'
        return msgspec.Raw(start + render_submitted(outcome)[1:])
    problem = build_problem(outcome)
    return {"status": problem.kind.status, "problem": problem.build_document()}


def prefix_pointers(settled: Sequence[SubmittedTask | TaskfleetError], most: int = 100) -> tuple[FieldError, ...]:
    """The findings of refused items as pointers into the batch, the first ones."""
    found: list[FieldError] = []
    for index, outcome in enumerate(settled):
        if not isinstance(outcome, TaskfleetError):
            continue
        errors = outcome.errors if isinstance(outcome, InvalidInputError) and outcome.errors else None
        found.extend(
            FieldError(f"#/{index}{error.pointer.removeprefix('#')}", error.detail)
            for error in errors or (FieldError("#", str(outcome)),)
        )
        if len(found) >= most:
            break
    return tuple(found[:most])
