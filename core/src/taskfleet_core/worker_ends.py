"""Why a worker ended, told from the last lines it wrote, with the fix where it is known. Pure."""

import re
from collections.abc import Callable

__all__ = ["MESSAGE_MAX_CHARACTERS", "explain_worker_end"]

MESSAGE_MAX_CHARACTERS = 300
_ERROR_LINE = re.compile(r"^(\w+\.)*\w*(Error|Exception|Exit|Interrupt|NotFound)\b.*|^Error: .*|.*\bFATAL\b.*")

# What Celery says in words that do not lead to the cause.
_KNOWN: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(r"AttributeError: '(\w+)' object has no attribute 'user_options'"),
        lambda found: (
            f"spec.worker.app names a {found[1]}, not a Celery application: name the variable of a module that holds "
            "one; for a factory, write a module with app = create_app()"
        ),
    ),
    (
        # Where it says "While trying to load", the error behind that is the cause.
        re.compile(r"Unable to load celery application\.\s+(?!While)(\S.*)"),
        lambda found: (
            f"no Celery application at spec.worker.app: {found[1].strip().rstrip('.')}; write "
            "package.module:attribute, as for celery -A"
        ),
    ),
    (
        re.compile(r"have to set the C_FORCE_ROOT"),
        lambda _: (
            "Celery does not run as root what accepts pickle: take pickle out of spec.worker.acceptContent, run the "
            "image as another user, or set C_FORCE_ROOT in spec.worker.env"
        ),
    ),
)


def explain_worker_end(text: str) -> str:
    """The fix for what Celery said last; else the last line that reads like an error, else the last line."""
    for pattern, explain in _KNOWN:
        found = pattern.search(text)
        if found:
            return explain(found)[:MESSAGE_MAX_CHARACTERS]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR_LINE.match(line)]
    return (errors or lines or [""])[-1][:MESSAGE_MAX_CHARACTERS]
