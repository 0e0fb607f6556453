"""What an app says about servers that are replaced."""

import pytest

from taskfleet_worker.servers import build_server_settings

CONF = {
    "broker_transport_options": {"global_keyprefix": "my:", "priority_steps": [0, 5], "sep": ":", "max_retries": 3},
    "result_backend_transport_options": {"global_keyprefix": "my:", "retry_policy": {}},
}


def test_names_stay_the_publishers_and_other_options_the_apps() -> None:
    settings = build_server_settings(CONF, "redis://host/0", "redis://host/0")
    assert settings["broker_transport_options"] == {"max_retries": 3}
    assert settings["result_backend_transport_options"] == {"retry_policy": {}}


@pytest.mark.parametrize(
    ("broker", "store", "cleared"),
    [
        ("amqp://host//", "redis://host/0", {"broker_use_ssl", "redis_backend_use_ssl"}),
        ("amqps://host//", "redis://host/0", {"redis_backend_use_ssl"}),
        ("redis://host/1", "rediss://host/0", {"broker_use_ssl"}),
        ("rediss://host/1", "rediss://host/0", set()),
    ],
)
def test_how_the_app_speaks_tls_holds_where_tls_is_spoken(broker: str, store: str, cleared: set[str]) -> None:
    settings = build_server_settings(CONF, broker, store)
    assert {name for name in settings if name.endswith("use_ssl")} == cleared
    assert settings["broker_login_method"] is None
