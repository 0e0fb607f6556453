"""Verified TLS to broker and store. Left alone, Celery would take any certificate of a `rediss` broker, and a valid one
of any host from an `amqps` broker; and it refuses a `rediss` result store that does not say how to verify.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

__all__ = ["add_verification", "build_broker_options"]

AMQP_SCHEMES = {"amqps", "pyamqps"}
REDIS_SCHEMES = {"rediss", "valkeys"}


def add_verification(url: str, ca_file: str | None) -> str:
    """The URL of a store with everything that redis-py and Celery want to know; what it says itself stands."""
    parts = urlsplit(url)
    if parts.scheme not in REDIS_SCHEMES:
        return url
    wanted = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
    if ca_file:
        wanted["ssl_ca_certs"] = ca_file
    said = dict(parse_qsl(parts.query))
    if said.get("ssl_cert_reqs", "required").lower() in ("none", "cert_none"):
        wanted["ssl_check_hostname"] = "false"
    missing = urlencode({name: value for name, value in wanted.items() if name not in said}, safe="/")
    return url if not missing else f"{url}{'&' if parts.query else '?'}{missing}"


def build_broker_options(url: str, ca_file: str | None) -> dict[str, Any] | None:
    """Celery's `broker_use_ssl`; None without TLS, or where the URL has options of its own."""
    parts = urlsplit(url.split(";", 1)[0])
    if "ssl_" in parts.query:
        return None
    if parts.scheme in AMQP_SCHEMES:
        # None as the name: kombu puts in that of the host, and only then is it compared.
        options: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
        return {**options, "ca_certs": ca_file} if ca_file else options
    if parts.scheme in REDIS_SCHEMES:
        options = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
        return {**options, "ssl_ca_certs": ca_file} if ca_file else options
    return None
