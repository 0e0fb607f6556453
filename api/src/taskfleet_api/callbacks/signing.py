"""Signatures of callbacks after the Standard Webhooks convention, version 1. Pure."""

import base64
import binascii
import hmac
from collections.abc import Sequence

__all__ = ["SECRET_PREFIX", "build_headers", "decode_secret", "sign"]

SECRET_PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64  # the bounds of the convention


def decode_secret(text: str) -> bytes:
    """The key in a secret `whsec_<base64>`. Raises ValueError, which does not repeat the secret."""
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a callback secret is `whsec_` and Base64") from None
    if not text.startswith(SECRET_PREFIX) or not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(f"a callback secret is `whsec_` and Base64 of {LEAST_BYTES} to {MOST_BYTES} bytes")
    return key


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature of a call: HMAC-SHA256 over id, time in seconds and body."""
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return "v1," + base64.b64encode(digest).decode()


def build_headers(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that prove where a call is from: one signature for each key, so that keys can be exchanged."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(key, message_id, timestamp, body) for key in keys),
    }
