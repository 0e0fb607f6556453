"""A worker whose own queues the broker still takes for another connection's waits for them and does not end."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kombu import Connection, Queue
from tests.integration.worker.harness import Bench
from tests.support.waiting import eventually_sync


def test_a_name_that_is_still_locked_does_not_end_the_worker(bench: Bench, tmp_path: Path) -> None:
    """As after the death of a RabbitMQ node, whose exclusive queues the others hold for a moment."""
    host, log = "locked", tmp_path / "locked.log"
    with Connection(bench.broker.url, connect_timeout=10) as holder, ThreadPoolExecutor(1) as pool:
        Queue(f"celery@{host}.celery.pidbox", exclusive=True)(holder.channel()).declare()
        starting = pool.submit(bench.start_worker, "prefork", 1, host=host)
        eventually_sync(lambda: log.exists() and "RESOURCE_LOCKED" in log.read_text(), 60, 0.1)
        holder.release()
        worker = starting.result()
    assert bench.final(bench.send("add", 2, 3))["result"] == 5
    assert worker.process.is_running
