"""What an app says about its own broker and result store, beside their addresses. Pure.

Those servers are replaced, so what was meant for them (logins, TLS, prefixes of keys) must go too: a worker that looked
for `my:thumbnails` would wait there for ever, one that spoke TLS to a plain server would never connect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["build_server_settings", "drop_names"]

# They decide what a queue or a result is called, and publisher and worker must agree on that.
NAMING_OPTIONS = frozenset({"global_keyprefix", "priority_steps", "sep"})
# Parts of an address that Celery takes for what the broker's URL leaves out, and limits of a store of the app's own.
OF_THE_APPS_SERVERS = (
    "broker_host",
    "broker_port",
    "broker_user",
    "broker_password",
    "broker_vhost",
    "broker_transport",
    "broker_login_method",
    "redis_max_connections",
    "task_queue_max_priority",  # an argument of the app's queues; a quorum queue has none of them
)
TLS_SCHEMES = ("amqps", "rediss", "valkeys")


def drop_names(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Transport options without those that rename queues and keys."""
    return {name: value for name, value in (options or {}).items() if name not in NAMING_OPTIONS}


def build_server_settings(conf: Mapping[str, Any], broker_url: str, redis_url: str) -> dict[str, Any]:
    """The settings of the app that are put back for the servers which the worker is given."""
    settings: dict[str, Any] = dict.fromkeys(OF_THE_APPS_SERVERS)
    settings["broker_transport_options"] = drop_names(conf["broker_transport_options"])
    settings["result_backend_transport_options"] = drop_names(conf["result_backend_transport_options"])
    if not broker_url.startswith(TLS_SCHEMES):
        settings["broker_use_ssl"] = None
    if not redis_url.startswith(TLS_SCHEMES):
        settings["redis_backend_use_ssl"] = None
    return settings
