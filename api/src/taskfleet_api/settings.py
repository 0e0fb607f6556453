"""The settings of the API process, read once at start-up from `TASKFLEET_API_*`.

A name with the prefix that no field knows is refused, so that a mistyped variable is never silently ignored.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from taskfleet_api.callbacks import CallbackRules, decode_secret
from taskfleet_core.addresses import add_authority

__all__ = ["ENVIRONMENT_PREFIX", "Settings"]

ENVIRONMENT_PREFIX = "TASKFLEET_API_"

MIB = 1024 * 1024
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LISTS = (
    "callback_allow",
    "callback_refuse",
    "callback_secrets",
    "cors_origins",
    "kubernetes_audiences",
    "references",
    "trusted_proxies",
)
_HEADER_WORD = re.compile(r"[!-~]+")


def _url_of(*schemes: str) -> AfterValidator:
    def check(url: SecretStr) -> SecretStr:
        scheme = urlsplit(url.get_secret_value()).scheme.partition("+")[0]
        if scheme not in schemes:
            raise ValueError(f"must be a URL with the scheme {' or '.join(schemes)}, not {scheme or 'none'!r}")
        return url

    return AfterValidator(check)


def _split_commas(value: object) -> object:
    """Lists in the environment are plain words separated by commas."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return value


DatabaseUrl = Annotated[SecretStr, _url_of("postgresql", "postgres", "mysql", "mariadb", "sqlite")]
RedisUrl = Annotated[SecretStr, _url_of("redis", "rediss", "unix", "valkey", "valkeys")]
BrokerUrl = Annotated[SecretStr, _url_of("amqp", "amqps", "redis", "rediss")]
HttpUrl = Annotated[SecretStr, _url_of("http", "https")]
Words = Annotated[tuple[str, ...], NoDecode]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode]


class _UnknownNames(EnvSettingsSource):
    """Hands every `TASKFLEET_API_*` variable without a field to the model, which forbids extra input."""

    def __call__(self) -> dict[str, Any]:
        known = {self.env_prefix.lower() + name for name in self.settings_cls.model_fields}
        prefix = self.env_prefix.lower()
        return {
            name.removeprefix(prefix): value
            for name, value in self.env_vars.items()
            if name.startswith(prefix) and name not in known
        }


class Settings(BaseSettings):
    """What an API process can be told. Every limit is here; times are seconds, sizes are bytes."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    # Serving
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port to listen on; 0 takes a free one.")
    tls_certificate_file: Path | None = Field(
        default=None, description="Certificate chain (PEM) to serve HTTPS with; None serves HTTP."
    )
    tls_key_file: Path | None = Field(default=None, description="Its private key (PEM).")
    root_path: str = Field(
        default="", pattern=r"^(/[^/]+)*$", description="Path under which a proxy publishes the API."
    )
    cors_origins: Words = Field(default=(), description="Origins that browsers may call from; `*` for any.")
    trusted_proxies: Words = Field(
        default=(), description="Addresses or networks whose X-Forwarded-* headers are believed; `*` for any."
    )
    listen_backlog: int = Field(default=2048, ge=128, description="Connections that may wait to be accepted.")
    header_timeout_seconds: float = Field(default=10, gt=0, description="Time to receive a request's headers.")
    body_timeout_seconds: float = Field(default=30, gt=0, description="Time to receive a request's body.")
    shutdown_timeout_seconds: float = Field(
        default=15, gt=0, description="Time for open requests and unpublished records after a stop signal."
    )
    log_format: Literal["json", "console"] = Field(default="json", description="How log lines are written.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    auth_mode: Literal["none", "apiKey"] = Field(
        default="none", description="How callers are authenticated: not at all, or by the admin key."
    )
    admin_key: SecretStr | None = Field(
        default=None,
        min_length=16,
        max_length=512,
        description="The key that callers send; needed with `apiKey`, refused with `none`.",
    )
    oidc_issuer: str | None = Field(
        default=None,
        pattern=r"^https://\S+$|^http://(127\.0\.0\.1|localhost)(:\d+)?(/\S*)?$",
        description="Let in callers with tokens of this OpenID Connect issuer, too. Needs `oidc_audience`.",
    )
    oidc_audience: str | None = Field(default=None, description="Audience that these tokens must be made for.")
    oidc_principal_claim: str = Field(default="sub", description="Claim that names the caller.")
    oidc_scopes_claim: str = Field(
        default="scope", description="Claim with the scopes, such as `taskfleet:submit taskfleet:read`."
    )
    oidc_queues_claim: str | None = Field(
        default=None, description="Claim with the queues that exist for the caller; None means all of them."
    )
    kubernetes_auth: bool = Field(
        default=False,
        description="Let in callers with a Kubernetes token, too: RBAC on taskqueues/tasks decides. Needs `apiKey`.",
    )
    kubernetes_url: str | None = Field(
        default=None, description="The Kubernetes API; None means that of the cluster in which this runs."
    )
    kubernetes_token_file: Path = Field(
        default=SERVICE_ACCOUNT / "token", description="Token with which reviews are asked for."
    )
    kubernetes_ca_file: Path = Field(
        default=SERVICE_ACCOUNT / "ca.crt", description="Certificate authority of the Kubernetes API."
    )
    kubernetes_audiences: Words = Field(
        default=(), description="Audiences that tokens must be made for; empty means the Kubernetes API's own."
    )

    # Dependencies
    ca_file: Path | None = Field(
        default=None,
        description="Authorities (PEM) that sign the certificates of database, store and broker, where these are "
        "reached over TLS and their URLs name none; None means the system's.",
    )
    database_url: DatabaseUrl = Field(
        default=SecretStr("sqlite:///taskfleet.db"),
        description="postgresql://, mysql:// or sqlite:///path; holds the records.",
    )
    database_pool_size: int = Field(default=10, ge=2, le=200, description="SQL connections of this process.")
    redis_url: RedisUrl = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"), description="Redis or Valkey with the live states and events."
    )
    broker_url: BrokerUrl = Field(
        default=SecretStr("amqp://guest:guest@127.0.0.1:5672//"), description="amqp(s):// or redis(s)://."
    )
    broker_name: str = Field(default="default", description="Name by which queues refer to the broker.")
    broker_management_url: HttpUrl | None = Field(
        default=None, description="RabbitMQ's management API; None guesses port 15672 of the broker's host."
    )
    broker_metrics_url: HttpUrl | None = Field(
        default=None, description="RabbitMQ's Prometheus endpoint; None means the management API is read instead."
    )

    # Limits of submissions
    max_item_bytes: int = Field(default=MIB, ge=1024, description="Largest single submission.")
    max_batch_bytes: int = Field(default=32 * MIB, ge=1024, description="Largest body of a batch.")
    max_batch_items: int = Field(default=10_000, ge=1, description="Most submissions in one batch.")
    max_json_depth: int = Field(default=64, ge=4, le=400, description="Deepest nesting of arguments and metadata.")
    max_wait_seconds: float = Field(default=60, gt=0, description="Longest wait that `Prefer: wait` grants.")
    max_backlog: int = Field(
        default=100_000, ge=1, description="Records accepted but not yet published; beyond it submissions get 503."
    )
    max_pending_submissions: int = Field(
        default=20_000, ge=1, description="Submissions in memory that wait for their commit; beyond it 503."
    )
    submit_rate_per_caller: float | None = Field(
        default=None,
        gt=0,
        description="Tasks a second of one caller, at all replicas together, after a burst of ten seconds' worth; "
        "beyond it 429.",
    )
    submit_rate_per_queue: float | None = Field(
        default=None,
        gt=0,
        description="Tasks a second into one queue, at all replicas together, after a burst of ten seconds' worth; "
        "beyond it 429.",
    )
    max_open_requests: int = Field(
        default=1000,
        ge=1,
        description="Requests in hand, waits and streams not counted; beyond it submissions get 503.",
    )
    max_unfinished_per_caller: int | None = Field(
        default=None, ge=1, description="Tasks of one caller that are accepted and not finished; beyond it 429."
    )
    max_unfinished_per_queue: int | None = Field(
        default=None, ge=1, description="Tasks of one queue that are accepted and not finished; beyond it 429."
    )
    max_streams: int = Field(default=1000, ge=1, description="Open event streams and waits of this process.")
    idempotency_ttl_seconds: int = Field(default=86_400, ge=60, description="How long an Idempotency-Key is kept.")
    list_page_limit: int = Field(default=500, ge=1, description="Most items in one page of a list.")

    # Background work
    publish_window: int = Field(default=2048, ge=1, description="Messages sent to the broker and not yet confirmed.")
    publish_timeout_seconds: float = Field(default=10, gt=0, description="Time for a publisher confirm.")
    republish_grace_seconds: float = Field(
        default=10, gt=0, description="Age at which an unpublished record is published by any replica's sweeper."
    )
    recorder_batch: int = Field(default=500, ge=1, description="Events that the recorder applies in a transaction.")
    sweep_interval_seconds: float = Field(default=1, gt=0, description="Pause between two sweeps for due records.")
    lease_quiet_seconds: float = Field(
        default=30, gt=0, description="How long an open record may be unknown to everybody before it runs again."
    )
    retention_days: float = Field(default=30, gt=0, description="Age at which finished records are deleted.")
    history_days: float = Field(
        default=2, ge=0, le=30, description="How long figures of the queues are kept for their charts; 0 keeps none."
    )

    # Callbacks
    callback_secrets: Secrets = Field(
        default=(),
        description="Secrets `whsec_<base64>` that sign callbacks, the newest first; none: no `callback_url` is taken.",
    )
    callback_allow: Words = Field(
        default=(),
        description="Hosts (`*.example.org` too) and networks that may be called though they are not public.",
    )
    callback_refuse: Words = Field(
        default=(), description="Networks that are never called, such as a cluster's own public ones."
    )
    callback_https_only: bool = Field(default=False, description="Refuse callbacks over plain http.")
    callback_timeout_seconds: float = Field(
        default=10, gt=0, le=60, description="Time for one call, from resolving the name to the answer."
    )
    callback_attempts: int = Field(default=16, ge=1, le=100, description="Calls of one callback before it is given up.")
    callback_backoff_seconds: float = Field(
        default=5, gt=0, description="Pause after the first call that failed; it doubles."
    )
    callback_max_backoff_seconds: float = Field(default=3600, gt=0, description="Longest pause between two calls.")
    callback_concurrency: int = Field(default=32, ge=1, le=1000, description="Calls under way at this replica.")
    callback_concurrency_per_host: int = Field(
        default=4, ge=1, description="Calls under way at this replica to one receiver (host and port)."
    )
    references: Words = Field(default=(), description="Reference contracts to mount, such as `000,001`.")
    console: bool = Field(default=True, description="Serve the web console at `/ui/`.")

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: _split_commas(value) if name in _LISTS else value for name, value in values.items()}

    @property
    def database_address(self) -> str:
        """The database's URL with the authority to trust."""
        return self._add_authority(self.database_url)

    @property
    def redis_address(self) -> str:
        """The store's URL with the authority to trust."""
        return self._add_authority(self.redis_url)

    @property
    def broker_address(self) -> str:
        """The broker's URL with the authority to trust."""
        return self._add_authority(self.broker_url)

    def _add_authority(self, url: SecretStr) -> str:
        return add_authority(url.get_secret_value(), str(self.ca_file) if self.ca_file else None)

    @model_validator(mode="after")
    def _check_tls(self) -> "Settings":
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file belong together: give both or none")
        for name in ("tls_certificate_file", "tls_key_file", "ca_file"):
            path = getattr(self, name)
            if path is not None and not path.is_file():
                raise ValueError(f"{name} is not a file that can be read: {path}")
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> "Settings":
        if self.max_item_bytes > self.max_batch_bytes:
            raise ValueError("max_item_bytes must not be larger than max_batch_bytes")
        return self

    @model_validator(mode="after")
    def _check_callbacks(self) -> "Settings":
        for secret in self.callback_secrets:
            decode_secret(secret.get_secret_value())
        CallbackRules(self.callback_allow, self.callback_refuse)
        return self

    @model_validator(mode="after")
    def _check_authentication(self) -> "Settings":
        if self.auth_mode == "apiKey" and self.admin_key is None:
            raise ValueError("auth_mode apiKey needs admin_key")
        if self.auth_mode == "none" and (self.kubernetes_auth or self.oidc_issuer):
            name = "kubernetes_auth" if self.kubernetes_auth else "oidc_issuer"
            raise ValueError(f"{name} needs auth_mode apiKey")
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("oidc_issuer and oidc_audience belong together: give both or none")
        if self.auth_mode == "none" and self.admin_key is not None:
            raise ValueError("admin_key is of no use with auth_mode none: set auth_mode to apiKey or remove the key")
        if self.admin_key is not None and not _HEADER_WORD.fullmatch(self.admin_key.get_secret_value()):
            raise ValueError("admin_key must be printable ASCII without spaces or line ends: it is sent in a header")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _UnknownNames(settings_cls)
