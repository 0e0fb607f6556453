"""Reference 001's settings under its own names, and the errors of 004."""

import json

import pytest
from pydantic import ValidationError

from taskfleet_api.references.errors import build_detail_response, build_error_response
from taskfleet_core.errors import (
    BrokerUnavailableError,
    InvalidInputError,
    NotFoundError,
    OverloadedError,
    RecordsUnavailableError,
)
from taskfleet_core.reference_settings import ReferenceSettings

NAMES = {
    "TASK_TIMEOUT": "12.5",
    "worker_concurrency": "3",
    "RABBITMQ_HOST": "broker.example",
    "RABBITMQ_DEFAULT_USER": "some user",
    "RABBITMQ_DEFAULT_PASS": "p@ss/word",
    "PORT_AMQP": "5673",
    "PORT_WEB": "15673",
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_the_defaults_are_those_of_the_reference() -> None:
    settings = ReferenceSettings()
    assert settings.task_timeout_seconds == 30
    assert settings.worker_concurrency == 1
    assert settings.broker_url is None


def test_every_name_is_read_and_makes_the_broker_url(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NAMES.items():
        monkeypatch.setenv(name, value)
    settings = ReferenceSettings()
    assert (settings.task_timeout_seconds, settings.worker_concurrency) == (12.5, 3)
    assert settings.broker_url is not None
    assert settings.broker_url.get_secret_value() == "amqp://some%20user:p%40ss%2Fword@broker.example:5673//"
    assert settings.management_url is not None
    assert settings.management_url.get_secret_value() == "http://some%20user:p%40ss%2Fword@broker.example:15673"
    assert "p@ss" not in repr(settings)


@pytest.mark.parametrize(("name", "value"), [("TASK_TIMEOUT", "0"), ("PORT_AMQP", "x"), ("worker_concurrency", "0")])
def test_a_wrong_value_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        ReferenceSettings()


@pytest.mark.parametrize(
    ("error", "plain", "standard"),
    [
        pytest.param(InvalidInputError("bad"), 422, 400, id="invalid input"),
        pytest.param(NotFoundError("no queue"), 503, 500, id="no such queue"),
        pytest.param(OverloadedError("full", 7), 503, 500, id="overloaded"),
        pytest.param(RecordsUnavailableError("down"), 503, 500, id="database down"),
        pytest.param(BrokerUnavailableError("down"), 503, 500, id="broker down"),
    ],
)
def test_domain_errors_have_the_statuses_of_the_contracts(error: Exception, plain: int, standard: int) -> None:
    response = build_detail_response(error)
    assert response is not None
    assert response.status_code == plain
    document = build_error_response(error)
    assert document.status_code == standard
    assert set(json.loads(bytes(document.body))["error"]) == {"code", "message", "details"}


def test_a_programming_error_is_004s_500_and_tells_nothing() -> None:
    document = build_error_response(KeyError("secret"))
    assert document.status_code == 500
    assert b"secret" not in bytes(document.body)
    assert build_detail_response(KeyError("secret")) is None
