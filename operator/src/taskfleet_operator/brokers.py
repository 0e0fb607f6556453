"""Which broker a TaskQueue means: the operator's own, or the one that a Secret of the user's names."""

import base64
import time
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

from taskfleet_core.addresses import add_authority, is_amqp_url, is_redis_url, parse_amqp_url
from taskfleet_core.errors import NotFoundError, TaskfleetError
from taskfleet_core.taskqueue import SecretRef, TaskQueue
from taskfleet_operator.kube import Kube
from taskfleet_operator.observed import Credentials
from taskfleet_operator.settings import OperatorSettings

__all__ = ["BrokerAccess", "BrokerDirectory", "Resolution", "build_identity", "decode_secret"]

# A Secret is read by name and not watched (the right to list Secrets would show all of them); a new password is found
# after this time.
SECRET_KEPT_SECONDS = 15.0
FAILURE_KEPT_SECONDS = 2.0
CLUSTER_SUFFIXES = (".cluster.local", ".svc")


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """How to reach a broker and with which credentials. Never printed."""

    url: str = field(repr=False)
    management_url: str | None = field(default=None, repr=False)
    metrics_url: str | None = field(default=None, repr=False)

    @property
    def identity(self) -> str:
        """The same for every way to reach the same broker."""
        return build_identity(self.url)


@dataclass(frozen=True, slots=True)
class Resolution:
    """The broker of one TaskQueue, or why it is not known."""

    access: BrokerAccess | None
    worker_url: str | None = field(default=None, repr=False)  # as workers reach it
    error: str | None = None
    where: str = ""  # where credentials are corrected


@lru_cache(maxsize=1024)
def build_identity(url: str) -> str:
    """Servers and virtual host (or database) of a broker URL: users and spelling do not count.

    Raises ValueError, without repeating the URL.
    """
    if is_amqp_url(url):
        addresses = parse_amqp_url(url)
        if not addresses:
            raise ValueError("the broker URL is empty")
        hosts = ",".join(sorted(f"{_normalise(address.host)}:{address.port}" for address in addresses))
        return f"amqp {hosts} {addresses[0].virtual_host}"
    if is_redis_url(url):
        parts = urlsplit(url)
        return f"redis {_normalise(parts.hostname or '')}:{parts.port or 6379} {parts.path.strip('/') or '0'}"
    raise ValueError("it begins with none of amqp://, amqps://, redis://, rediss://")


def _normalise(host: str) -> str:
    """A Service has several names: `name.namespace` is the shortest that is the same in every namespace."""
    host = host.lower().rstrip(".")
    for suffix in CLUSTER_SUFFIXES:
        host = host.removesuffix(suffix)
    return {"localhost": "127.0.0.1"}.get(host, host)


def decode_secret(secret: dict[str, object], key: str) -> str | None:
    """One value of a Secret, or None when it is not there or no text."""
    data = secret.get("data")
    try:
        return base64.b64decode(data[key], validate=True).decode().strip() if isinstance(data, dict) else None
    except (KeyError, ValueError):
        return None


class BrokerDirectory:
    """Resolves TaskQueues to brokers. Reads a Secret once for all TaskQueues that name it, again after a while."""

    def __init__(self, kube: Kube, settings: OperatorSettings) -> None:
        self._kube = kube
        self._worker_url = settings.broker_url_of_workers
        self._worker_redis_url = settings.redis_url_of_workers
        self._ca_file = str(settings.ca_file) if settings.ca_file else None
        self._authorities = settings.read_authorities()
        self.default = BrokerAccess(
            settings.broker_address,
            settings.broker_management_url.get_secret_value() if settings.broker_management_url else None,
            settings.broker_metrics_url.get_secret_value() if settings.broker_metrics_url else None,
        )
        self._own = {self.default.identity, build_identity(self._worker_url)}
        self._secrets: dict[tuple[str, str], tuple[float, dict[str, object] | TaskfleetError]] = {}

    def is_default(self, access: BrokerAccess) -> bool:
        """Whether this is the operator's own broker, whatever the way to it."""
        return access.identity in self._own

    def get_identity(self, access: BrokerAccess) -> str:
        """Its identity; the operator's own broker may have one name for workers and another for the operator."""
        return self.default.identity if self.is_default(access) else access.identity

    def build_credentials(self, resolution: Resolution) -> Credentials | None:
        """What the workers of this broker get; None while the broker is not known."""
        if resolution.worker_url is None or resolution.access is None:
            return None
        is_default = self.is_default(resolution.access)
        return Credentials(resolution.worker_url, self._worker_redis_url, self._authorities, is_default)

    async def resolve(self, queue: TaskQueue) -> Resolution:
        """The broker of a TaskQueue."""
        if queue.spec.broker is None:
            return Resolution(self.default, self._worker_url, where="the operator's Secret with its broker URL")
        reference = queue.spec.broker.secret_ref
        where = f"Secret {reference.name}"
        secret = await self._fetch(queue.metadata.namespace, reference.name)
        if isinstance(secret, TaskfleetError):
            what = "does not exist" if isinstance(secret, NotFoundError) else f"cannot be read ({secret})"
            return Resolution(None, error=f"{where} {what}: create it, or correct spec.broker.secretRef")
        return self._read(secret, queue.metadata.namespace, reference)

    def _read(self, secret: dict[str, object], namespace: str, reference: SecretRef) -> Resolution:
        where = f"Secret {reference.name}"
        url = decode_secret(secret, reference.key)
        if not url:
            self._expire_soon(namespace, reference.name)
            error = f"{where} has no key {reference.key}: add it, or set spec.broker.secretRef.key"
            return Resolution(None, error=error)
        try:
            access = BrokerAccess(url, decode_secret(secret, "managementUrl"), decode_secret(secret, "metricsUrl"))
            is_own = self.is_default(access)
        except ValueError as problem:
            self._expire_soon(namespace, reference.name)
            return Resolution(None, error=f"{where}, key {reference.key} is no broker URL: {problem}")
        if is_own:
            access = BrokerAccess(
                add_authority(url, self._ca_file),
                access.management_url or _take_host(self.default.management_url),
                access.metrics_url or self.default.metrics_url,
            )
        return Resolution(access, url, where=f"{where}, key {reference.key}")

    def _expire_soon(self, namespace: str, name: str) -> None:
        """What is wrong in it is likely being mended now."""
        expires, secret = self._secrets[(namespace, name)]
        self._secrets[(namespace, name)] = (min(expires, time.monotonic() + FAILURE_KEPT_SECONDS), secret)

    async def _fetch(self, namespace: str, name: str) -> dict[str, object] | TaskfleetError:
        now = time.monotonic()
        kept = self._secrets.get((namespace, name))
        if kept is not None and kept[0] > now:
            return kept[1]
        answer: dict[str, object] | TaskfleetError
        try:
            answer = await self._kube.get("Secret", namespace, name)
        except TaskfleetError as error:
            answer = error
        failed = isinstance(answer, TaskfleetError)
        if failed and kept is not None and not isinstance(answer, NotFoundError):
            answer = kept[1]  # an API server that does not answer changes no broker
        self._secrets = {key: value for key, value in self._secrets.items() if value[0] > now - 600}
        seconds = FAILURE_KEPT_SECONDS if failed else SECRET_KEPT_SECONDS
        self._secrets[(namespace, name)] = (now + seconds, answer)
        return answer


def _take_host(url: str | None) -> str | None:
    """The URL without its credentials: the Secret's own are used there too."""
    if url is None:
        return None
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rsplit("@", 1)[-1]).geturl()
