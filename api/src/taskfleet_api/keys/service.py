"""Keeping API keys, independent of HTTP."""

from collections.abc import Sequence
from datetime import UTC, datetime

from taskfleet_api.keys.ring import KeyRing, make_secret
from taskfleet_api.keys.schemas import NewKeyInput
from taskfleet_api.records import KeyRecord, Records
from taskfleet_core.errors import ConflictError, FieldError, InvalidInputError, NotFoundError

__all__ = ["Keys"]


class Keys:
    """API keys by name. `ring` is None while authentication is off: keys would protect nothing then."""

    def __init__(self, *, records: Records, ring: KeyRing | None) -> None:
        self._records = records
        self._ring = ring

    async def create(self, wanted: NewKeyInput) -> tuple[KeyRecord, str]:
        """A new key and its secret, which cannot be read again. Raises ConflictError and InvalidInputError."""
        ring = self._check()
        now = datetime.now(UTC)
        if wanted.expires_at is not None and wanted.expires_at <= now:
            error = FieldError("#/expires_at", "Give a moment in the future.")
            raise InvalidInputError("The key would have expired already.", (error,))
        secret, digest = make_secret()
        record = KeyRecord(
            name=wanted.name,
            scopes=tuple(sorted(set(wanted.scopes))),
            queues=None if wanted.queues is None else tuple(dict.fromkeys(wanted.queues)),
            created_at=now,
            expires_at=wanted.expires_at,
        )
        if not await self._records.add_key(record, digest):
            raise ConflictError(f"There is a key {wanted.name!r} already; revoke it first, or choose another name.")
        ring.forget()
        return record, secret

    async def list(self) -> Sequence[KeyRecord]:
        """All keys by name, without their secrets. Raises ConflictError."""
        self._check()
        return await self._records.list_keys()

    async def revoke(self, name: str) -> None:
        """Make a key worthless. Raises NotFoundError and ConflictError."""
        ring = self._check()
        if not await self._records.delete_key(name):
            raise NotFoundError(f"There is no key {name[:128]!r}.")
        ring.forget()

    def _check(self) -> KeyRing:
        if self._ring is None:
            raise ConflictError("Authentication is off: keys have no meaning. Start the API with auth_mode apiKey.")
        return self._ring
