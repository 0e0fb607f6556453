"""The OpenAPI document is a contract: stable operation ids, documented problems, closed inputs."""

from typing import Any

import pytest

from taskfleet_api.app import create_app
from taskfleet_api.settings import Settings

OPERATIONS = {
    "submitTask": "POST /api/v1/tasks",
    "listTasks": "GET /api/v1/tasks",
    "submitBatch": "POST /api/v1/tasks:batch",
    "getTask": "GET /api/v1/tasks/{task_id}",
    "cancelTask": "DELETE /api/v1/tasks/{task_id}",
    "retryTask": "POST /api/v1/tasks/{task_id}:retry",
    "streamTaskEvents": "GET /api/v1/tasks/{task_id}/events",
    "streamEventsOfTasks": "GET /api/v1/tasks:events",
    "streamTasks": "GET /api/v1/tasks:stream",
    "listKeys": "GET /api/v1/keys",
    "createKey": "POST /api/v1/keys",
    "revokeKey": "DELETE /api/v1/keys/{name}",
    "listQueues": "GET /api/v1/queues",
    "getQueue": "GET /api/v1/queues/{name}",
    "listQueueTasks": "GET /api/v1/queues/{name}/tasks",
    "listQueueWorkers": "GET /api/v1/queues/{name}/workers",
    "getQueueHistory": "GET /api/v1/queues/{name}/history",
    "getHistories": "GET /api/v1/queues:history",
    "explainScaling": "GET /api/v1/queues/{name}/scaling",
    "redriveDead": "POST /api/v1/queues/{name}/dead:redrive",
    "purgeDead": "POST /api/v1/queues/{name}/dead:purge",
    "listSchedules": "GET /api/v1/schedules",
    "createSchedule": "POST /api/v1/schedules",
    "getSchedule": "GET /api/v1/schedules/{schedule_id}",
    "putSchedule": "PUT /api/v1/schedules/{schedule_id}",
    "deleteSchedule": "DELETE /api/v1/schedules/{schedule_id}",
    "livez": "GET /livez",
    "readyz": "GET /readyz",
    "metrics": "GET /metrics",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def list_operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def test_operation_ids_are_stable(document: dict[str, Any]) -> None:
    found = {operation["operationId"]: place for place, operation in list_operations(document).items()}
    assert found == OPERATIONS


def test_every_operation_says_what_it_does_and_documents_its_problems(document: dict[str, Any]) -> None:
    for place, operation in list_operations(document).items():
        assert operation["summary"], place
        assert operation["description"], place
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and operation["operationId"] != "readyz":
                assert list(answer["content"]) == ["application/problem+json"], (place, status)


def test_it_is_openapi_3_1_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert node["$ref"].rpartition("/")[2] in schemas
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


@pytest.mark.parametrize("name", ["TaskSubmission", "BatchItem", "ScheduleInput", "NewScheduleInput", "RetryRules"])
def test_inputs_are_closed(document: dict[str, Any], name: str) -> None:
    assert document["components"]["schemas"][name]["additionalProperties"] is False
