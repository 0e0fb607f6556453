"""Broker URLs in Celery's spellings, and never a password in sight."""

import pytest

from taskfleet_core.addresses import add_authority, parse_amqp_url, redact_url, replace_login


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqp://", ("127.0.0.1", 5672, False, "guest", "guest", "/")),
        ("amqp://h", ("h", 5672, False, "guest", "guest", "/")),
        ("amqp://h/", ("h", 5672, False, "guest", "guest", "/")),
        ("amqp://h//", ("h", 5672, False, "guest", "guest", "/")),
        ("amqp://h/%2F", ("h", 5672, False, "guest", "guest", "/")),
        ("pyamqp://u:p%40ss@h:1/tasks", ("h", 1, False, "u", "p@ss", "tasks")),
        ("amqps://u:p@[::1]/v", ("::1", 5671, True, "u", "p", "v")),
    ],
)
def test_urls_are_read_as_celery_reads_them(url: str, expected: tuple[object, ...]) -> None:
    (address,) = parse_amqp_url(url)
    found = (address.host, address.port, address.tls, address.user, address.password, address.virtual_host)
    assert found == expected
    assert parse_amqp_url(address.url) == (address,)


def test_several_servers_are_separated_by_semicolons() -> None:
    assert [address.label for address in parse_amqp_url("amqp://a;amqp://b:1")] == ["a:5672", "b:1"]


@pytest.mark.parametrize("url", ["http://u:secret@h", "amqp://u:secret@h:port/", "secret"])
def test_errors_do_not_repeat_the_url(url: str) -> None:
    with pytest.raises(ValueError, match="AMQP") as caught:
        parse_amqp_url(url)
    assert "secret" not in str(caught.value)


def test_a_password_is_never_printed() -> None:
    (address,) = parse_amqp_url("amqp://u:secret@h")
    assert "secret" not in repr(address) + str(address) + address.label
    assert redact_url("redis://u:secret@h:1/0") == "redis://h:1"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("amqps://h//", "amqps://h//?cacertfile=%2Fca"),
        (
            "amqps://a//;amqps://b//?heartbeat=5",
            "amqps://a//?cacertfile=%2Fca;amqps://b//?heartbeat=5&cacertfile=%2Fca",
        ),
        ("rediss://h/0", "rediss://h/0?ssl_ca_certs=%2Fca"),
        ("redis://h/0", "redis://h/0"),
        (
            "postgresql+asyncpg://h/db?sslmode=verify-full",
            "postgresql+asyncpg://h/db?sslmode=verify-full&sslrootcert=%2Fca",
        ),
        ("amqps://h//?cacertfile=/own", "amqps://h//?cacertfile=/own"),
        ("sqlite:///records", "sqlite:///records"),
    ],
)
def test_an_authority_is_added_where_a_url_can_have_one_and_has_none(url: str, expected: str) -> None:
    assert add_authority(url, "/ca") == expected
    assert add_authority(url, None) == url


def test_another_user_takes_the_place_of_the_one_in_each_address() -> None:
    url = "amqps://old:pw@one:5671//?cacertfile=/ca.crt;amqps://old:pw@two:5671//"
    there = replace_login(url, "taskfleet.a", "p@ss")
    assert there == "amqps://taskfleet.a:p%40ss@one:5671//?cacertfile=/ca.crt;amqps://taskfleet.a:p%40ss@two:5671//"
    assert {address.password for address in parse_amqp_url(there)} == {"p@ss"}
