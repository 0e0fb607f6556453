"""How a worker verifies broker and store: unless a URL says otherwise, chain and host name."""

import ssl

import pytest

from taskfleet_worker.tls import add_verification, build_broker_options

VERIFIED = "ssl_cert_reqs=required&ssl_check_hostname=true"


@pytest.mark.parametrize(
    ("url", "ca_file", "expected"),
    [
        pytest.param("redis://h/0", "/ca", "redis://h/0", id="plain"),
        pytest.param("rediss://h/0", None, f"rediss://h/0?{VERIFIED}", id="by the system's authorities"),
        pytest.param("rediss://h/0", "/ca", f"rediss://h/0?{VERIFIED}&ssl_ca_certs=/ca", id="by one authority"),
        pytest.param(
            "rediss://h/0?ssl_ca_certs=/own", "/ca", f"rediss://h/0?ssl_ca_certs=/own&{VERIFIED}", id="the URL's own"
        ),
        pytest.param(
            "rediss://h/0?ssl_cert_reqs=none",
            None,
            "rediss://h/0?ssl_cert_reqs=none&ssl_check_hostname=false",
            id="switched off by the URL",
        ),
    ],
)
def test_a_store_is_verified_unless_its_url_says_otherwise(url: str, ca_file: str | None, expected: str) -> None:
    assert add_verification(url, ca_file) == expected


@pytest.mark.parametrize(
    ("url", "ca_file", "expected"),
    [
        pytest.param("amqp://h//", "/ca", None, id="plain"),
        pytest.param(
            "amqps://h//",
            "/ca",
            {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None, "ca_certs": "/ca"},
            id="amqps",
        ),
        pytest.param(
            "rediss://h/0", None, {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}, id="rediss"
        ),
        pytest.param("rediss://h/0?ssl_cert_reqs=none", "/ca", None, id="the URL's own"),
    ],
)
def test_a_broker_is_verified_unless_its_url_says_otherwise(url: str, ca_file: str | None, expected: object) -> None:
    assert build_broker_options(url, ca_file) == expected
