"""Generates the synchronous client from the asynchronous one, so that its logic is written once. `--check` compares."""

import re
import subprocess
import sys
from pathlib import Path

from generated import keep_files

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "cli/src/taskfleet/async_client.py"
TARGET = ROOT / "cli/src/taskfleet/client.py"
HEADER = '"""The synchronous client. Generated from async_client.py by hack/generate_sync_client.py: do not edit."""\n'

REPLACEMENTS = [
    (r"AsyncBaseTransport", "BaseTransport"),
    (r"\bAsyncClient\b", "Client"),
    (r"AsyncIterator", "Iterator"),
    (r"__aenter__", "__enter__"),
    (r"__aexit__", "__exit__"),
    (r"\baclose\b", "close"),
    (r"\baread\b", "read"),
    (r"\baiter_lines\b", "iter_lines"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"^import asyncio\n", ""),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
]


def build_source() -> str:
    """The text of the generated module."""
    text = SOURCE.read_text()
    text = HEADER + text.partition('"""\n')[2]
    for pattern, replacement in REPLACEMENTS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    for command in (["check", "--select", "I", "--fix-only", "-q"], ["format", "-q"]):
        arguments = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(TARGET), "-"]
        done = subprocess.run(arguments, input=text, capture_output=True, text=True, timeout=60, check=True)
        text = done.stdout
    return text


def main() -> int:
    """Write the module, or say whether it is up to date."""
    return keep_files({TARGET: build_source()})


if __name__ == "__main__":
    sys.exit(main())
