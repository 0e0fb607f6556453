"""A plain Celery app with one task of each kind: quick, slow with progress, CPU-bound, unreliable."""

import hashlib
import random
import time

from celery import Celery, Task

app = Celery("hello")


@app.task(name="hello.add")
def add(x: int, y: int) -> int:
    """Add two numbers."""
    return x + y


@app.task(name="hello.sleep", bind=True)
def sleep(self: Task, seconds: float = 5.0, steps: int = 10) -> dict[str, float]:
    """Sleep, and report progress after each of `steps` parts."""
    started = time.monotonic()
    for step in range(1, steps + 1):
        time.sleep(seconds / steps)
        self.update_state(state="PROGRESS", meta={"current": step, "total": steps})
    return {"slept_seconds": round(time.monotonic() - started, 3)}


@app.task(name="hello.resize")
def resize(width: int = 640, height: int = 480, factor: int = 4) -> dict[str, object]:
    """Shrink a synthetic grey image by averaging blocks of `factor` x `factor` pixels: work for a CPU."""
    source = [bytes((x * y) & 0xFF for x in range(width)) for y in range(height)]
    small_width, small_height = width // factor, height // factor
    small = bytearray()
    for y in range(small_height):
        rows = source[y * factor : (y + 1) * factor]
        for x in range(small_width):
            block = [sum(row[x * factor : (x + 1) * factor]) for row in rows]
            small.append(sum(block) // (factor * factor))
    return {"width": small_width, "height": small_height, "sha256": hashlib.sha256(small).hexdigest()}


@app.task(
    name="hello.flaky",
    bind=True,
    autoretry_for=(ConnectionError,),
    max_retries=5,
    retry_backoff=1,
    retry_backoff_max=4,
    retry_jitter=False,
)
def flaky(self: Task, failure_rate: float = 0.5) -> dict[str, int]:
    """Fail with the given chance; Celery retries it up to five times."""
    if random.random() < failure_rate:
        raise ConnectionError("the other side did not answer (simulated)")
    return {"retries": self.request.retries}
