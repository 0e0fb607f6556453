"""A table of tasks as large as it gets after months, made by PostgreSQL itself."""

from tests.support.databases import PostgreSQL

__all__ = ["fill_tasks"]

# A new task each second, newest last; 50 queues and 20 kinds of task, nearly all of them done.
_FILL = """
INSERT INTO tasks (id, queue, task, attempt, args, created_at, updated_at, origin, cancel_requested, principal,
                   state, position, retries, published_at, started_at, finished_at, progress_count, deliveries)
SELECT gen_random_uuid(), 'queue-' || n % 50, CASE WHEN n % 10000 = 0 THEN 'app.rare' ELSE 'app.task_' || n % 20 END,
       1, '[' || n || ']', at, at, 'api', false, '',
       CASE WHEN n % 1000 = 0 THEN 'failed' WHEN n > {count} - 200 THEN 'queued' ELSE 'succeeded' END,
       3, 0, at, at, at, 0, 1
FROM generate_series(1, {count}) AS n, LATERAL (SELECT now() - make_interval(secs => {count} - n) AS at) AS times;
INSERT INTO task_labels (key, value, created_at, task_id)
SELECT 'tenant', 'tenant-' || abs(hashtext(id::text)) % 100, created_at, id FROM tasks;
ANALYZE tasks;
ANALYZE task_labels
"""


def fill_tasks(server: PostgreSQL, url: str, count: int) -> None:
    """Put that many tasks, each with a label, into an empty migrated database."""
    server.execute(_FILL.format(count=count), url)
