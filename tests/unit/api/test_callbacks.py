"""Callbacks of submissions: who may be named, how a call is signed, when the next one is made."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from tests.unit.api.conftest import RunningApp, on_shared

from taskfleet_api.background.calling import decide_outcome
from taskfleet_api.background.options import BackgroundOptions
from taskfleet_api.callbacks import Delivery, decode_secret, sign
from taskfleet_api.callbacks.signing import build_headers
from taskfleet_api.records import CallbackRecord, CallbackState
from taskfleet_api.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = BackgroundOptions(callback_attempts=3, callback_backoff_seconds=10, callback_max_backoff_seconds=15)
URL = "https://example.org/hook"
JOB: dict[str, Any] = {"queue": "jobs", "task": "jobs.add"}


@pytest.fixture(scope="module")
def overrides() -> dict[str, Any]:
    """With a secret, so that there are callbacks."""
    return {"callback_secrets": SECRET, "callback_allow": "10.1.0.0/16"}


def build_record(tries: int) -> CallbackRecord:
    return CallbackRecord(UUID(int=1), URL, "example.org:443", CallbackState.PENDING, 1, tries, NOW, NOW)


def test_the_signature_is_that_of_the_published_example() -> None:
    body = b'{"test": 2432232314}'
    signature = sign(decode_secret(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_every_secret_signs_so_that_they_can_be_exchanged() -> None:
    keys = [decode_secret(SECRET), b"k" * 32]
    signatures = build_headers(keys, "m", 1, b"{}")["webhook-signature"].split(" ")
    assert signatures == [sign(key, "m", 1, b"{}") for key in keys]


@pytest.mark.parametrize("secret", ["plain", "whsec_!", "whsec_" + base64.b64encode(b"short").decode(), SECRET[6:]])
def test_a_weak_or_unreadable_secret_stops_the_start_and_is_not_shown(secret: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(callback_secrets=secret)
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("tries", "delivery", "state", "pause"),
    [
        (1, Delivery(status=204), CallbackState.DELIVERED, None),
        (1, Delivery("answered 500", 500), CallbackState.PENDING, 7.5),
        (2, Delivery("answered 500", 500), CallbackState.PENDING, 11.25),
        (1, Delivery("answered 503", 503, retry_after_seconds=12), CallbackState.PENDING, 12),
        (1, Delivery("answered 503", 503, retry_after_seconds=9999), CallbackState.PENDING, 15),
        (3, Delivery("no connection"), CallbackState.GIVEN_UP, None),
        (1, Delivery("answered 410", 410, final=True), CallbackState.GIVEN_UP, None),
    ],
)
def test_what_follows_a_call(tries: int, delivery: Delivery, state: CallbackState, pause: float | None) -> None:
    told = decide_outcome(build_record(tries), delivery, OPTIONS, NOW, 0.5)
    due_at = None if pause is None else NOW + timedelta(seconds=pause)
    assert told == replace(
        build_record(tries), state=state, due_at=due_at, last_status=delivery.status, last_error=delivery.error
    )


async def test_a_task_shows_its_callback(running: RunningApp) -> None:
    submitted = await running.client.post("/api/v1/tasks", json=JOB | {"callback_url": URL})
    assert submitted.status_code == 202, submitted.text
    task = (await running.client.get(f"/api/v1/tasks/{submitted.json()['id']}")).json()
    assert (task["callback"]["url"], task["callback"]["state"], task["callback"]["tries"]) == (URL, "waiting", 0)
    plain = (await running.client.post("/api/v1/tasks", json=JOB)).json()
    assert (await running.client.get(f"/api/v1/tasks/{plain['id']}")).json()["callback"] is None


@on_shared
@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/", "https://localhost/", "https://a:b@example.org/", "x", ""])
async def test_a_receiver_that_may_not_be_called_is_refused_by_field(shared: RunningApp, url: str) -> None:
    refused = await shared.client.post("/api/v1/tasks", json=JOB | {"callback_url": url})
    assert refused.status_code == 422, refused.text
    assert refused.json()["errors"][0]["pointer"] == "#/callback_url"
    schedule = JOB | {"cron": "0 6 * * *", "callback_url": url}
    refused = await shared.client.put("/api/v1/schedules/daily", json=schedule)
    assert refused.json()["errors"][0]["pointer"] == "#/callback_url"


async def test_items_of_a_batch_have_their_own_or_the_one_of_the_batch(running: RunningApp) -> None:
    items = [JOB, JOB | {"callback_url": "http://10.1.2.3/own"}, JOB | {"callback_url": "http://10.2.2.3/"}]
    answer = await running.client.post("/api/v1/tasks:batch", params={"callback_url": URL}, json=items)
    assert answer.status_code == 200, answer.text
    first, second, third = answer.json()["items"]
    assert third["problem"]["errors"][0]["pointer"] == "#/callback_url"
    for item, url in ((first, URL), (second, "http://10.1.2.3/own")):
        task = (await running.client.get(f"/api/v1/tasks/{item['id']}")).json()
        assert task["callback"]["url"] == url


async def test_a_task_cancelled_before_its_start_has_its_callback_due(running: RunningApp) -> None:
    later = JOB | {"callback_url": "http://10.1.2.3/", "countdown_seconds": 60}
    task_id = (await running.client.post("/api/v1/tasks", json=later)).json()["id"]
    assert (await running.client.delete(f"/api/v1/tasks/{task_id}")).status_code == 200
    task = (await running.client.get(f"/api/v1/tasks/{task_id}")).json()
    assert task["callback"]["state"] == "pending"


async def test_a_schedule_keeps_its_callback(running: RunningApp) -> None:
    schedule = JOB | {"cron": "0 6 * * *", "callback_url": URL}
    assert (await running.client.put("/api/v1/schedules/daily", json=schedule)).json()["callback_url"] == URL
    plain = JOB | {"cron": "0 6 * * *"}
    assert (await running.client.put("/api/v1/schedules/daily", json=plain)).json()["callback_url"] is None


class TestWithoutASecret:
    @pytest.fixture
    def overrides(self) -> dict[str, Any]:
        return {}

    async def test_nothing_can_be_signed_and_so_nothing_is_called(self, running: RunningApp) -> None:
        refused = await running.client.post("/api/v1/tasks", json=JOB | {"callback_url": URL})
        assert refused.status_code == 422
        assert "switched off" in json.dumps(refused.json()["errors"])
