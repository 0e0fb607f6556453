"""What a process tells of itself in its metrics."""

import time

import httpx

__all__ = ["read_process"]


def read_process(address: str) -> dict[str, float]:
    """The `process_*` metrics at `host:port`, and under `at` when they were read (monotonic seconds)."""
    text = httpx.get(f"http://{address}/metrics", timeout=10, trust_env=False).text
    found = {"at": time.monotonic()}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name.startswith("process_"):
            found[name] = float(value)
    return found
