"""Keeps the tables of 003 and 004 in step with the outcome of their tasks.

The record is the truth; a row is its picture. Each replica compares its open rows with the records twice a second and
writes what changed, and a read does the same for the one row it returns. Comparing was chosen over listening to events:
it needs no delivery, so it also repairs what happened while no API process lived, and two replicas writing the
same picture do no harm. Its price is one indexed query per table and round. A row that is final and whose task is then
started again through `/api/v1` follows at its next read.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Table

from taskfleet_api.records.model import TaskRecord
from taskfleet_api.references.rows import Row, Rows
from taskfleet_api.references.tables import now_utc
from taskfleet_api.tasks.model import NewSubmission
from taskfleet_api.tasks.service import Services
from taskfleet_core.errors import NotFoundError, TaskfleetError
from taskfleet_core.states import TaskState

__all__ = ["PENDING", "RowContract", "RowTasks", "build_status"]

logger = structlog.get_logger()

PENDING, PROCESSING, COMPLETED, FAILED = "PENDING", "PROCESSING", "COMPLETED", "FAILED"
_RANK = {PENDING: 0, PROCESSING: 1, COMPLETED: 2, FAILED: 2}
_STATUS_OF = {
    TaskState.SCHEDULED: PENDING,
    TaskState.PENDING: PENDING,
    TaskState.QUEUED: PENDING,
    TaskState.RUNNING: PROCESSING,
    TaskState.RETRYING: PROCESSING,
    TaskState.SUCCEEDED: COMPLETED,
}

ROUND_SECONDS = 0.5
BACKOFF_SECONDS = 5.0
PAGE_ROWS = 500
PAGES_PER_ROUND = 10
ORPHAN_AGE = timedelta(seconds=10)


def build_status(record: TaskRecord) -> str:
    """The status that a record has in the words of 003 and 004; every bad end is FAILED."""
    return _STATUS_OF.get(record.state, FAILED)


@dataclass(frozen=True, slots=True)
class RowContract:
    """What one reference adds to a common row: its table, its queue and task, and how an outcome is written."""

    reference: str
    table: Table
    queue: str
    task: str
    build_kwargs: Callable[[Row], Mapping[str, Any]]
    build_outcome: Callable[[TaskRecord, str], Mapping[str, Any]]  # columns beside status and updated_at


class RowTasks:
    """Rows with a task behind each: created, read and kept in step."""

    def __init__(self, contract: RowContract, rows: Rows, services: Services) -> None:
        self.contract = contract
        self.rows = rows
        self._services = services
        self._cursor: Any = None

    async def create(self, values: Mapping[str, Any]) -> Row:
        """Commit a row, then submit its task. The row goes again when the task is refused.

        The row comes first because its id is the task's argument and its idempotency key: a process that dies in
        between leaves a row without a task, and the next round submits it once.
        """
        now = now_utc()
        full = dict(values) | {"status": PENDING, "created_at": now, "updated_at": now}
        row_id = await self.rows.insert(full)
        row = full | {"id": row_id}
        try:
            row["record_id"] = await self._submit(row)
        except TaskfleetError:
            await self.rows.delete(row_id)
            raise
        return row

    async def read(self, row_id: Any) -> Row | None:
        """The row with the newest status of its task, written through to the table."""
        row = await self.rows.fetch(row_id)
        return await self._refresh(row) if row else None

    async def read_page(self, offset: int, limit: int) -> list[Row]:
        """Rows in the order of their ids; at most half a second behind their tasks."""
        return await self.rows.fetch_page(offset, limit)

    async def delete(self, row_id: Any) -> bool:
        """Cancel the row's task as far as it has not begun, and remove the row."""
        row = await self.rows.fetch(row_id)
        if row is None:
            return False
        if row["record_id"] and _RANK[row["status"]] < _RANK[FAILED]:
            try:
                await self._services.tasks.cancel(UUID(row["record_id"]))
            except TaskfleetError as error:
                # Running, finished or unreachable: the row goes all the same, the record keeps the outcome.
                logger.info("reference_row_task_not_cancelled", row=row_id, reason=str(error))
        return await self.rows.delete(row_id)

    async def keep_in_step(self) -> None:
        """Compare and write until cancelled."""
        while True:
            try:
                await self.run_round()
                pause = ROUND_SECONDS
            except Exception as error:
                # An outage or a programming error: neither may end the loop, the next round starts afresh.
                logger.warning(
                    "reference_rows_failed", reference=self.contract.reference, error=f"{type(error).__name__}: {error}"
                )
                pause = BACKOFF_SECONDS
            await asyncio.sleep(pause)

    async def run_round(self) -> int:
        """Walk over the open rows, a bounded number per round; returns how many changed."""
        changed = 0
        for _ in range(PAGES_PER_ROUND):
            page = await self.rows.fetch_with_status((PENDING, PROCESSING), self._cursor, PAGE_ROWS)
            changed += await self._refresh_page(page)
            self._cursor = page[-1]["id"] if len(page) == PAGE_ROWS else None
            if self._cursor is None:
                break
        return changed

    async def _refresh_page(self, page: list[Row]) -> int:
        known = [row for row in page if row["record_id"]]
        records = await self._fetch_records([UUID(row["record_id"]) for row in known])
        changes = []
        for row in known:
            record = records.get(row["record_id"])
            # Only forwards: a read may have shown a live state that has not reached the records yet.
            if record is not None and _RANK[build_status(record)] > _RANK[row["status"]]:
                changes.append((row["id"], self._build_change(record), row["status"]))
        for row in page:
            if not row["record_id"] and now_utc() - row["created_at"] > ORPHAN_AGE:
                await self._submit(row)
        return await self.rows.update_many(changes) if changes else 0

    async def _refresh(self, row: Row) -> Row:
        if not row["record_id"]:
            return row
        try:
            record = await self._services.tasks.get(UUID(row["record_id"]))
        except NotFoundError:
            return row  # the record's retention is over; the row keeps the outcome
        if build_status(record) == row["status"]:
            return row
        change = self._build_change(record)
        if not await self.rows.update(row["id"], change, while_status=row["status"]):
            return await self.rows.fetch(row["id"]) or row
        return {**row, **change}

    async def _fetch_records(self, ids: list[UUID]) -> dict[str, TaskRecord]:
        found = await self._services.records.get_many(ids) if ids else {}
        return {str(record_id): record for record_id, record in found.items()}

    def _build_change(self, record: TaskRecord) -> dict[str, Any]:
        status = build_status(record)
        when = record.finished_at.astimezone(UTC).replace(tzinfo=None) if record.finished_at else now_utc()
        return {"status": status, "updated_at": when, **self.contract.build_outcome(record, status)}

    async def _submit(self, row: Row) -> str:
        contract = self.contract
        submitted = await self._services.submissions.submit(
            NewSubmission(
                queue=contract.queue,
                task=contract.task,
                kwargs_json=json.dumps(contract.build_kwargs(row), ensure_ascii=False),
                metadata_json=json.dumps({"reference": contract.reference, "row": row["id"]}),
                labels=(("reference", contract.reference), ("row", str(row["id"]))),
                principal=f"reference-{contract.reference}",
                idempotency_key=str(row["id"]),
                body_hash=b"",
            )
        )
        await self.rows.update(row["id"], {"record_id": str(submitted.id)})
        return str(submitted.id)
