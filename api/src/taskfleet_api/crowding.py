"""Refusing more submissions than can be answered in time, before they cost anything.

Without a bound, each caller that is let in makes all the others wait longer, until all give up and nothing is done.
"""

import time

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from taskfleet_api.bodies import IncomingBody, has_body
from taskfleet_api.middleware import SECURITY_HEADERS, count_request
from taskfleet_api.problems import PROBLEM_MEDIA_TYPE, build_problem
from taskfleet_core.errors import OverloadedError

__all__ = ["refuse_crowd"]

RETRY_SECONDS = 1


async def refuse_crowd(scope: Scope, receive: Receive, send: Send, limit: int) -> None:
    """Answer 503 with Retry-After; what the caller sent is thrown away."""
    begun = time.perf_counter()
    problem = build_problem(OverloadedError(f"{limit} requests are in hand already.", RETRY_SECONDS))
    text = msgspec.json.encode(problem.build_document(scope["path"]))
    headers = [
        (b"content-type", PROBLEM_MEDIA_TYPE.encode()),
        (b"content-length", str(len(text)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
        *SECURITY_HEADERS,
    ]
    count_request(scope, problem.kind.status, time.perf_counter() - begun)
    try:
        if has_body(scope):
            await IncomingBody(receive).discard_rest()
        await send({"type": "http.response.start", "status": problem.kind.status, "headers": headers})
        await send({"type": "http.response.body", "body": text})
    except ClientDisconnect:
        return
