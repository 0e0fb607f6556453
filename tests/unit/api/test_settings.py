"""Settings: what is mistyped is refused, secrets stay secret."""

import pytest
from pydantic import ValidationError

from taskfleet_api.settings import Settings


def test_unknown_name_with_the_prefix_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_API_MAX_ITEM_BITES", "1")
    with pytest.raises(ValidationError, match="max_item_bites"):
        Settings()


def test_names_without_the_prefix_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_QUEUE", "x")
    assert Settings().port == 8000


def test_lists_are_words_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_API_REFERENCES", "000, 001")
    monkeypatch.setenv("TASKFLEET_API_CORS_ORIGINS", "")
    settings = Settings()
    assert settings.references == ("000", "001")
    assert settings.cors_origins == ()


@pytest.mark.parametrize("name", ["database_url", "redis_url", "broker_url"])
def test_urls_never_show_their_password(name: str) -> None:
    scheme = {"database_url": "postgresql", "redis_url": "redis", "broker_url": "amqp"}[name]
    settings = Settings(**{name: f"{scheme}://user:hunter2@host/x"})
    assert "hunter2" not in repr(settings)
    with pytest.raises(ValidationError) as refused:
        Settings(**{name: "ftp://user:hunter2@host/x"})
    assert "hunter2" not in str(refused.value)


KEY = "0123456789abcdef"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        pytest.param({"auth_mode": "apiKey"}, "needs admin_key", id="no key"),
        pytest.param({"admin_key": KEY}, "set auth_mode to apiKey", id="a key that nothing asks for"),
        pytest.param({"auth_mode": "apiKey", "admin_key": "hunter2"}, "at least 16", id="short key"),
        pytest.param({"auth_mode": "apiKey", "admin_key": KEY + "\n"}, "printable ASCII", id="line end"),
        pytest.param({"auth_mode": "oauth", "admin_key": KEY}, "'none' or 'apiKey'", id="unknown mode"),
    ],
)
def test_authentication_that_cannot_work_is_refused_without_showing_the_key(values: dict[str, str], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as refused:
        Settings(**values)
    assert values.get("admin_key", KEY) not in str(refused.value)


def test_the_clients_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken for the server's key and ignored it would leave the API open."""
    monkeypatch.setenv("TASKFLEET_API_KEY", KEY)
    with pytest.raises(ValidationError):
        Settings()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
