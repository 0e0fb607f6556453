"""Settings of the operator process: read once at start from TASKFLEET_OPERATOR_*; unknown names are refused."""

import os
import socket
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from taskfleet_core.addresses import add_authority

__all__ = ["OperatorSettings", "load_settings"]

PREFIX = "TASKFLEET_OPERATOR_"


class OperatorSettings(BaseSettings):
    """One operator. URLs hold credentials and are never printed."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    namespace: str | None = Field(default=None, description="Serve this namespace only. None: the whole cluster.")
    lease_namespace: str = Field(default="default", description="Namespace of the leader election's Lease.")
    lease_name: str = Field(default="taskfleet-operator", description="Name of the Lease; one per group of replicas.")
    shard: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$",
        description="Serve the TaskQueues whose label `taskfleet.dev/shard` is this; empty: those without the label.",
    )
    lease_seconds: float = Field(default=15, ge=3, description="Seconds without a renewal until a standby takes over.")
    identity: str = Field(default_factory=socket.gethostname, description="This replica's name in the Lease.")
    broker_url: SecretStr = Field(description="The default broker, as this process reaches it.")
    broker_management_url: SecretStr | None = Field(default=None, description="RabbitMQ management API.")
    broker_metrics_url: SecretStr | None = Field(default=None, description="RabbitMQ Prometheus endpoint.")
    broker_users_url: SecretStr | None = Field(
        default=None,
        description="RabbitMQ management API with the login of an administrator. Set: the workers of each TaskQueue "
        "log in to the default broker as a user of their own, which it makes.",
    )
    redis_url: SecretStr = Field(description="Redis/Valkey, as this process reaches it.")
    worker_broker_url: SecretStr | None = Field(default=None, description="The broker as workers reach it.")
    worker_redis_url: SecretStr | None = Field(default=None, description="Redis/Valkey as workers reach it.")
    ca_file: Path | None = Field(
        default=None,
        description="Authorities (PEM) that sign the certificates of the default broker and of Redis/Valkey. Workers "
        "get them with their URLs.",
    )
    broker_name: str = Field(default="default", description="The default broker's name in the API's settings.")
    interval_seconds: float = Field(default=1.0, gt=0, le=60, description="Seconds between two looks at the broker.")
    reconcile_workers: int = Field(default=8, ge=1, le=64, description="TaskQueues reconciled at the same time.")
    max_replicas: int | None = Field(
        default=None,
        ge=0,
        description="Most worker pods of all TaskQueues that it serves, shared between namespaces. None: no limit.",
    )
    metrics_port: int = Field(default=8080, ge=0, le=65535, description="Port of /metrics.")
    probes_port: int = Field(default=8081, ge=0, le=65535, description="Port of /healthz and /readyz.")
    log_format: str = Field(default="json", pattern="^(json|console)$", description="json or console.")

    @property
    def lease_name_of_shard(self) -> str:
        """Each shard has its own leader, also where nobody has named its Lease."""
        if "lease_name" in self.model_fields_set or not self.shard:
            return self.lease_name
        return f"{self.lease_name}-{self.shard.lower().replace('_', '-')}"

    @property
    def broker_address(self) -> str:
        """The default broker's URL with the authority to trust."""
        return self._add_authority(self.broker_url)

    @property
    def redis_address(self) -> str:
        """The store's URL with the authority to trust."""
        return self._add_authority(self.redis_url)

    def _add_authority(self, url: SecretStr) -> str:
        return add_authority(url.get_secret_value(), str(self.ca_file) if self.ca_file else None)

    def read_authorities(self) -> str | None:
        """What workers trust, too. Raises OSError when the file cannot be read."""
        return self.ca_file.read_text(encoding="ascii") if self.ca_file else None

    @property
    def broker_url_of_workers(self) -> str:
        """What goes into the workers' Secrets."""
        return (self.worker_broker_url or self.broker_url).get_secret_value()

    @property
    def redis_url_of_workers(self) -> str:
        """What goes into the workers' Secrets."""
        return (self.worker_redis_url or self.redis_url).get_secret_value()


def load_settings() -> OperatorSettings:
    """Read the environment. Raises ValueError for names that do not exist: a typo must not be silently ignored."""
    known = {f"{PREFIX}{name}".upper() for name in OperatorSettings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise ValueError(f"unknown settings: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return OperatorSettings()  # type: ignore[call-arg] # the environment gives what is required
