"""Names the caller of a request by the key that it sends."""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from taskfleet_api.access import Caller, KeyScope
from taskfleet_api.records import KeyRecord
from taskfleet_core.errors import RecordsUnavailableError

__all__ = ["ADMIN", "KeyRing", "make_secret"]

ADMIN = "admin"
BEARER = b"bearer "
PREFIX = "tfk_"  # lets people, and tools that look for leaked secrets, recognise a key
SECRET_BYTES = 32
# A revoked key may work this much longer at other replicas; a key in use costs one query in this time.
TRUST_SECONDS = 5.0
# While the database does not answer, keys that were seen lately go on working.
STALE_SECONDS = 300.0
MAX_REMEMBERED = 10_000

Fetch = Callable[[bytes], Awaitable[KeyRecord | None]]


def make_secret() -> tuple[str, bytes]:
    """A new key and its digest, which is all that is kept of it."""
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    return secret, _hash(secret.encode())


@dataclass(slots=True)
class _Known:
    """What the database said of a digest."""

    record: KeyRecord | None
    at: float  # monotonic


class KeyRing:
    """The admin key of the settings, and the keys in the records (`fetch`, once they are open)."""

    def __init__(self, admin_key: str) -> None:
        self._admin_digest = _hash(admin_key.encode())
        self._admin = Caller(ADMIN, frozenset({KeyScope.ADMIN}))
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[KeyRecord | None]] = {}
        self.fetch: Fetch | None = None

    async def identify(self, headers: Mapping[bytes, bytes]) -> Caller | None:
        """The caller; None without a valid key. `X-API-Key` is for those whose proxy uses `Authorization`.

        Raises RecordsUnavailableError for a key that was not seen lately while the database does not answer.
        """
        key = headers.get(b"x-api-key")
        if key is None:
            key = _read_bearer(headers.get(b"authorization", b""))
        if key is None:
            return None
        digest = _hash(key)
        if hmac.compare_digest(digest, self._admin_digest):
            return self._admin
        if not key.startswith(PREFIX.encode()) or self.fetch is None:
            return None
        record = await self._look_up(digest, self.fetch)
        if record is None or (record.expires_at is not None and record.expires_at <= datetime.now(UTC)):
            return None
        return Caller(f"key:{record.name}", frozenset(map(KeyScope, record.scopes)), record.queues)

    def forget(self) -> None:
        """Ask the database again: keys have changed here."""
        self._known.clear()

    async def _look_up(self, digest: bytes, fetch: Fetch) -> KeyRecord | None:
        known, now = self._known.get(digest), time.monotonic()
        if known is not None and now - known.at < TRUST_SECONDS:
            return known.record
        try:
            record = await self._ask(digest, fetch)
        except RecordsUnavailableError:
            if known is None or known.record is None or now - known.at > STALE_SECONDS:
                raise
            return known.record
        self._known[digest] = _Known(record, now)
        self._known.move_to_end(digest)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return record

    async def _ask(self, digest: bytes, fetch: Fetch) -> KeyRecord | None:
        """One query for all requests that ask at the same time; a client that goes away cancels nobody else's."""
        task = self._asking.get(digest)
        if task is None:
            task = self._asking[digest] = asyncio.ensure_future(fetch(digest))
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(task)


def _read_bearer(value: bytes) -> bytes | None:
    return value[len(BEARER) :].strip() if value[: len(BEARER)].lower() == BEARER else None


def _hash(key: bytes) -> bytes:
    """Of one length for all keys: comparing them tells nothing. Keys are random and long: no salt, no slow hash."""
    return hashlib.sha256(key).digest()
