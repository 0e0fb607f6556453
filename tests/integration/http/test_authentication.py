"""A real server that asks for a key: the client and the command line bring it, nobody else gets in, no log shows it."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from tests.support.stack import Stack, StackOptions, running_stack

from taskfleet import AsyncClient, AuthenticationError, Client
from taskfleet.exit_codes import ExitCode
from taskfleet.main import execute

KEY = "correct-horse-battery-staple"
WRONG = "wrong-horse-battery-staple"
TASK = {"queue": "jobs", "task": "jobs.add"}


@pytest.fixture(scope="module")
def closed() -> Iterator[Stack]:
    """A stack whose API asks for a key."""
    environment = {"auth_mode": "apiKey", "admin_key": KEY, "references": "000"}
    with running_stack(StackOptions(broker="valkey", database="sqlite", environment=environment)) as stack:
        stack.add_queue("jobs")
        yield stack


def test_the_clients_bring_the_key(closed: Stack) -> None:
    with Client(closed.base_url, api_key=KEY) as client:
        task_id = client.submit("jobs", "jobs.add").id
        assert client.get(task_id).queue == "jobs"

    async def read() -> str:
        async with AsyncClient(closed.base_url, api_key=KEY) as client:
            return (await client.get(task_id)).id

    assert asyncio.run(read()) == task_id


@pytest.mark.parametrize("key", [None, WRONG])
def test_a_client_without_it_is_told_so(closed: Stack, key: str | None) -> None:
    with Client(closed.base_url, api_key=key) as client, pytest.raises(AuthenticationError, match="TASKFLEET_API_KEY"):
        client.submit("jobs", "jobs.add")


def test_the_command_line_takes_it_from_the_environment_or_an_option(
    closed: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["submit", "jobs", "jobs.add", "--url", closed.base_url]
    assert execute(command) == ExitCode.UNAUTHENTICATED
    assert execute([*command, "--api-key", KEY]) == ExitCode.OK
    monkeypatch.setenv("TASKFLEET_API_KEY", KEY)
    for more in (command, ["list", *command[3:]], ["queues", *command[3:]], ["schedules", *command[3:]]):
        assert execute(more) == ExitCode.OK
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err


def test_keys_are_made_listed_and_revoked_by_command(
    closed: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TASKFLEET_URL", closed.base_url)
    monkeypatch.setenv("TASKFLEET_API_KEY", KEY)
    scopes = ["--scope", "submit", "--scope", "read"]
    assert execute(["keys", "create", "shop", *scopes, "--queue", "jobs", "--days", "30"]) == ExitCode.OK
    made = capsys.readouterr().out.strip()
    assert made.startswith("tfk_")
    assert execute(["keys", "create", "shop", *scopes]) == ExitCode.CONFLICT
    assert execute(["keys", "create", "else"]) == ExitCode.USAGE
    assert execute(["keys", "create", "else", "--scope", "all"]) == ExitCode.USAGE
    capsys.readouterr()
    assert execute(["keys"]) == ExitCode.OK
    listed = capsys.readouterr().out
    assert "read,submit" in listed
    assert made not in listed
    monkeypatch.setenv("TASKFLEET_API_KEY", made)
    assert execute(["submit", "jobs", "jobs.add"]) == ExitCode.OK
    assert execute(["keys"]) == ExitCode.UNAUTHENTICATED
    monkeypatch.setenv("TASKFLEET_API_KEY", KEY)
    assert execute(["keys", "revoke", "shop"]) == ExitCode.OK
    assert execute(["keys", "revoke", "shop"]) == ExitCode.NOT_FOUND
    monkeypatch.setenv("TASKFLEET_API_KEY", made)
    assert execute(["submit", "jobs", "jobs.add"]) == ExitCode.UNAUTHENTICATED


def test_probes_and_metrics_stay_open_and_a_refusal_is_counted(closed: Stack) -> None:
    with httpx.Client(base_url=closed.base_url, trust_env=False, timeout=20) as anybody:
        for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
            assert anybody.get(path).status_code == 200, path
        for path in ("/api/v1/tasks", "/send-message"):
            refused = anybody.post(path, json=TASK)
            assert (refused.status_code, refused.json()["status"]) == (401, 401), path
            assert refused.headers["www-authenticate"].startswith("Bearer")
        assert 'status="401"' in anybody.get("/metrics").text


def test_no_log_shows_a_key(closed: Stack) -> None:
    with httpx.Client(base_url=closed.base_url, trust_env=False, timeout=20) as anybody:
        anybody.post("/api/v1/tasks", json=TASK, headers={"Authorization": f"Bearer {WRONG}"})
        anybody.post("/api/v1/tasks", json={"queue": "none", "task": "x"}, headers={"X-API-Key": KEY})
    log = (closed.directory / "api-0.log").read_text(errors="replace")
    assert log
    assert KEY not in log
    assert WRONG not in log
