"""OpenID Connect: a bearer token of an issuer says who calls; its claims say what for.

Signing keys come from the issuer's discovery document and are kept. A token with an unknown key makes one more
question, and no more than one in ten seconds, so that made-up tokens cannot flood the issuer; while no key is known at
all, one in a second. The answers are bounded in time and size, and a key in them that is not understood is left out.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import structlog

from taskfleet_api.access import Caller, KeyScope
from taskfleet_core.errors import UnavailableError

__all__ = ["OidcAccess", "OidcRules"]

log = structlog.get_logger()

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_SECONDS = 30  # between the issuer's clock and ours
FRESH_SECONDS = 300.0
RETRY_SECONDS = 10.0
FIRST_RETRY_SECONDS = 1.0  # while no key is known
TIMEOUT_SECONDS = 5.0
MOST_BYTES = 1024 * 1024  # of each of the issuer's documents
MOST_NAME = 200  # characters of a principal
# As the setting of the issuer: what is fetched in clear text could be anybody's keys.
_SAFE_URL = re.compile(r"https://\S+|http://(127\.0\.0\.1|localhost)(:\d+)?(/\S*)?")
SCOPE_PREFIX = "taskfleet:"


@dataclass(frozen=True, slots=True)
class OidcRules:
    """Whom to believe, and which claims mean what. `queues_claim` None: tokens are good for all queues."""

    issuer: str
    audience: str
    principal_claim: str = "sub"
    scopes_claim: str = "scope"
    queues_claim: str | None = None


class OidcAccess:
    """Checks tokens of one issuer."""

    def __init__(self, rules: OidcRules, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._rules = rules
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, transport=transport, trust_env=transport is None)
        self._keys: dict[str, jwt.PyJWK] = {}
        self._asked_at = self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    def issued(self, token: bytes) -> bool:
        """Whether the token says that it is of this issuer. Nothing is checked yet."""
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError):
            return False
        return bool(claims.get("iss") == self._rules.issuer)

    async def identify(self, token: bytes) -> Caller | None:
        """The caller; None for a token that is not valid. Raises UnavailableError while no key can be had."""
        try:
            header = jwt.get_unverified_header(token)
            key = await self._find_key(str(header.get("kid", "")))
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=[name for name in ALGORITHMS if name == header.get("alg")],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", self._rules.principal_claim]},
            )
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError):
            return None
        return build_caller(claims, self._rules) if _is_name(claims[self._rules.principal_claim]) else None

    async def _find_key(self, key_id: str) -> jwt.PyJWK | None:
        now = time.monotonic()
        is_fresh = now - self._fetched_at < FRESH_SECONDS
        if (key_id in self._keys and is_fresh) or (self._keys and now - self._asked_at < RETRY_SECONDS):
            return self._keys.get(key_id)
        async with self._lock:
            if time.monotonic() - self._asked_at >= (RETRY_SECONDS if self._keys else FIRST_RETRY_SECONDS):
                await self._refresh()
        if not self._keys:
            raise UnavailableError("The OpenID issuer's keys cannot be read.")
        return self._keys.get(key_id)

    async def _refresh(self) -> None:
        """What is known stays good when the issuer does not answer."""
        self._asked_at = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                discovered = await self._fetch(self._rules.issuer.rstrip("/") + "/.well-known/openid-configuration")
                if discovered.get("issuer") != self._rules.issuer:
                    raise ValueError("the discovery document names another issuer")
                self._keys = build_keys((await self._fetch(str(discovered["jwks_uri"])))["keys"])
            self._fetched_at = time.monotonic()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, KeyError, RecursionError) as error:
            log.warning("oidc_keys_unreadable", issuer=self._rules.issuer, error=str(error) or type(error).__name__)
        finally:
            # Counted from the answer: whoever waited for it must not ask at once again.
            self._asked_at = time.monotonic()

    async def _fetch(self, url: str) -> dict[str, Any]:
        """A JSON object. Raises ValueError for anything else."""
        if _SAFE_URL.fullmatch(url) is None:
            raise ValueError("the keys' address is not https")
        body = bytearray()
        async with self._client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
            response.raise_for_status()
            async for part in response.aiter_raw():
                body += part
                if len(body) > MOST_BYTES:
                    raise ValueError(f"more than {MOST_BYTES} bytes")
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError("no JSON object")
        return document


def build_keys(items: object) -> dict[str, jwt.PyJWK]:
    """The keys that can be used, by id. Pure."""
    keys: dict[str, jwt.PyJWK] = {}
    for item in items if isinstance(items, list) else ():
        with contextlib.suppress(jwt.PyJWTError, ValueError, KeyError, TypeError, AttributeError):
            if _is_usable(item):
                keys[str(item.get("kid", ""))] = jwt.PyJWK(item)
    return keys


def _is_usable(key: dict[str, Any]) -> bool:
    """Keys for encryption, and those of kinds that we do not know, are left out."""
    return key.get("use", "sig") == "sig" and key.get("kty") in {"RSA", "EC", "OKP"}


def build_caller(claims: dict[str, Any], rules: OidcRules) -> Caller:
    """What the claims of a checked token allow. Pure."""
    named = {word.removeprefix(SCOPE_PREFIX) for word in _words(claims.get(rules.scopes_claim)) if _is_ours(word)}
    queues = None if rules.queues_claim is None else tuple(_words(claims.get(rules.queues_claim)))
    scopes = frozenset(scope for scope in KeyScope if scope.value in named)
    return Caller(f"oidc:{claims[rules.principal_claim]}", scopes, queues)


def _is_name(value: object) -> bool:
    """Whether a claim can name somebody: a list or an object would be a name that nobody meant."""
    return isinstance(value, str) and 0 < len(value) <= MOST_NAME and value.isprintable()


def _is_ours(word: str) -> bool:
    return word.startswith(SCOPE_PREFIX)


def _words(value: object) -> Sequence[str]:
    """A claim as words: OAuth's text with spaces, or a list."""
    if isinstance(value, str):
        return value.split()
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
