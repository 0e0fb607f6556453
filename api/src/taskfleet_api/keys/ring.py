"""Names the caller of a request by the key that it sends."""

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from taskfleet_api.access import Caller, KeyScope
from taskfleet_api.kubernetes_access import KubernetesAccess
from taskfleet_api.oidc_access import OidcAccess
from taskfleet_api.records import KeyRecord
from taskfleet_api.remembering import Remembered

__all__ = ["ADMIN", "KeyRing", "make_secret"]

ADMIN = "admin"
BEARER = b"bearer "
PREFIX = "tfk_"  # lets people, and tools that look for leaked secrets, recognise a key
SECRET_BYTES = 32
# A revoked key may work this much longer at other replicas; a key in use costs one query in this time.
TRUST_SECONDS = 5.0
# While the database does not answer, keys that were seen lately go on working.
STALE_SECONDS = 300.0

Fetch = Callable[[bytes], Awaitable[KeyRecord | None]]


def make_secret() -> tuple[str, bytes]:
    """A new key and its digest, which is all that is kept of it."""
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    return secret, _hash(secret.encode())


class KeyRing:
    """The admin key of the settings, and the keys in the records (`fetch`, once they are open)."""

    def __init__(self, admin_key: str) -> None:
        self._admin_digest = _hash(admin_key.encode())
        self._admin = Caller(ADMIN, frozenset({KeyScope.ADMIN}))
        self.remembered: Remembered[bytes, KeyRecord | None] = Remembered(
            trust_seconds=TRUST_SECONDS, stale_seconds=STALE_SECONDS, worth=lambda record: record is not None
        )
        self.fetch: Fetch | None = None
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.kubernetes: KubernetesAccess | None = None
        self.oidc: OidcAccess | None = None

    async def identify(self, headers: Mapping[bytes, bytes], method: str, path: str) -> Caller | None:
        """The caller; None without a valid key. `X-API-Key` is for those whose proxy uses `Authorization`.

        Raises UnavailableError for a key that was not seen lately while who knows of it does not answer.
        """
        key = headers.get(b"x-api-key")
        if key is None:
            key = _read_bearer(headers.get(b"authorization", b""))
        if key is None:
            return None
        digest = _hash(key)
        if hmac.compare_digest(digest, self._admin_digest):
            return self._admin
        is_token = key.count(b".") == 2
        if is_token and self.oidc is not None and self.oidc.issued(key):
            return await self.oidc.identify(key)
        if is_token and self.kubernetes is not None:
            return await self.kubernetes.identify(key, digest, method, path)
        fetch = self.fetch
        if not key.startswith(PREFIX.encode()) or fetch is None:
            return None
        record = await self.remembered.get(digest, lambda: fetch(digest))
        if record is None or (record.expires_at is not None and record.expires_at <= self.now()):
            return None
        return Caller(f"key:{record.name}", frozenset(map(KeyScope, record.scopes)), record.queues)

    def forget(self) -> None:
        """Ask the database again: keys have changed here."""
        self.remembered.forget()


def _read_bearer(value: bytes) -> bytes | None:
    return value[len(BEARER) :].strip() if value[: len(BEARER)].lower() == BEARER else None


def _hash(key: bytes) -> bytes:
    """Of one length for all keys: comparing them tells nothing. Keys are random and long: no salt, no slow hash."""
    return hashlib.sha256(key).digest()
