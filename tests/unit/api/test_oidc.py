"""OpenID Connect: real signatures, an issuer on this machine, and every way in which a token can be wrong."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.unit.api.conftest import build_settings

from taskfleet_api import oidc_access
from taskfleet_api.access import KeyScope
from taskfleet_api.app import create_app
from taskfleet_api.oidc_access import OidcAccess, OidcRules, build_caller
from taskfleet_core.errors import UnavailableError

AUDIENCE = "taskfleet"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def describe_keys() -> list[dict[str, Any]]:
    rsa_key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key()))
    ec_key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC_KEY.public_key()))
    return [rsa_key | {"kid": "r", "use": "sig"}, ec_key | {"kid": "e"}, {"kty": "oct", "k": "AAAA", "kid": "o"}]


def encode(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


class Issuer:
    """The two documents of an issuer, over HTTP."""

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0
        self.is_away = self.is_slow = False
        self.padding = 0
        self._answering: list[asyncio.Future[None]] = []
        self.keys = describe_keys()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._answering.append(asyncio.ensure_future(self._serve(reader, writer)))

        self._server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.is_slow = False
        await asyncio.gather(*self._answering)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        document: Any = {"keys": self.keys}
        if b"openid-configuration" in head:
            document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        body = b"" if self.is_away else json.dumps(document).encode() + b" " * self.padding
        while self.is_slow:
            await asyncio.sleep(0.01)
        status = b"503 Away" if self.is_away else b"200 OK"
        with contextlib.suppress(ConnectionError):
            head = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
            writer.write(head + body)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def sign(
        self, key: Any = RSA_KEY, algorithm: str = "RS256", key_id: str = "r", headers: Any = None, **claims: Any
    ) -> str:
        """A token that is right but for what the test says."""
        usual = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "jane",
            "exp": time.time() + 600,
            "scope": "openid taskfleet:submit taskfleet:read",
        }
        wanted = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode(wanted, key, algorithm=algorithm, headers={"kid": key_id, **(headers or {})})


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def access(issuer: Issuer) -> AsyncIterator[OidcAccess]:
    made = OidcAccess(OidcRules(issuer.url, AUDIENCE))
    yield made
    await made.close()


@pytest.mark.parametrize(("key", "algorithm", "key_id"), [(RSA_KEY, "RS256", "r"), (EC_KEY, "ES256", "e")])
async def test_a_good_token_names_the_caller(
    issuer: Issuer, access: OidcAccess, key: Any, algorithm: str, key_id: str
) -> None:
    token = issuer.sign(key, algorithm, key_id).encode()
    assert access.issued(token)
    caller = await access.identify(token)
    assert caller is not None
    assert caller.principal == "oidc:jane"
    assert caller.scopes == {KeyScope.SUBMIT, KeyScope.READ}
    assert caller.sees_all


async def test_every_other_token_is_refused(issuer: Issuer, access: OidcAccess) -> None:
    unsigned = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "kid": "r"}, {"iss": issuer.url, "aud": AUDIENCE, "sub": "jane", "exp": 9**10})
    )
    wrong = {
        "expired": issuer.sign(exp=time.time() - 60),
        "not yet valid": issuer.sign(nbf=time.time() + 600),
        "for somebody else": issuer.sign(aud="other"),
        "without audience": issuer.sign(aud=None),
        "without end": issuer.sign(exp=None),
        "without subject": issuer.sign(sub=None),
        "of another issuer": issuer.sign(iss="https://elsewhere.example"),
        "signed by another": issuer.sign(OTHER_KEY),
        "unknown key": issuer.sign(OTHER_KEY, key_id="x"),
        "key of another kind": issuer.sign(EC_KEY, "ES256", "r"),
        "a password in place of a key": issuer.sign("x" * 64, "HS256"),
        "no signature": f"{unsigned}.",
        "no token": "a.b.c",
        "a list as the subject": issuer.sign(sub=["jane"]),
        "an empty subject": issuer.sign(sub=""),
        "a subject of two lines": issuer.sign(sub="jane\nadmin"),
        "an end that is no number": issuer.sign(exp="soon"),
        "an end without end": issuer.sign(exp=float("inf")),
        "a demand that is not understood": issuer.sign(headers={"crit": ["b64"], "b64": False}),
        "too deep": ".".join((encode(b'{"alg":"RS256"}'), encode(b"[" * 100_000), "x")),
    }
    for name, token in wrong.items():
        assert await access.identify(token.encode()) is None, name
    assert await access.identify(issuer.sign().encode()) is not None


async def test_made_up_tokens_do_not_flood_the_issuer(issuer: Issuer, access: OidcAccess) -> None:
    assert await access.identify(issuer.sign().encode()) is not None
    for number in range(20):
        assert await access.identify(issuer.sign(OTHER_KEY, key_id=str(number)).encode()) is None
    assert issuer.requests == 2


async def test_new_keys_are_found_and_old_ones_outlive_an_outage(
    issuer: Issuer, access: OidcAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_access, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(oidc_access, "FRESH_SECONDS", 0.0)
    kept, issuer.keys = issuer.keys, issuer.keys[1:]
    assert await access.identify(issuer.sign().encode()) is None
    issuer.keys = kept
    assert await access.identify(issuer.sign().encode()) is not None
    issuer.is_away = True
    assert await access.identify(issuer.sign().encode()) is not None


async def test_an_issuer_that_is_away_from_the_start_is_not_asked_by_every_caller(
    issuer: Issuer, access: OidcAccess
) -> None:
    issuer.is_away = True
    tokens = [issuer.sign(OTHER_KEY, key_id=str(number)).encode() for number in range(20)]
    answers = await asyncio.gather(*map(access.identify, tokens), return_exceptions=True)
    assert {type(answer) for answer in answers} == {UnavailableError}
    assert issuer.requests == 1


async def test_an_issuer_that_hangs_holds_nobody_up_for_long(
    issuer: Issuer, access: OidcAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_access, "TIMEOUT_SECONDS", 0.2)
    issuer.is_slow = True
    async with asyncio.timeout(5):
        with pytest.raises(UnavailableError):
            await access.identify(issuer.sign().encode())
    issuer.is_slow = False


async def test_a_flood_from_the_issuer_is_not_read(issuer: Issuer, access: OidcAccess) -> None:
    issuer.padding = 2 * oidc_access.MOST_BYTES
    with pytest.raises(UnavailableError):
        await access.identify(issuer.sign().encode())


async def test_a_key_that_is_not_understood_does_not_spoil_the_others(issuer: Issuer, access: OidcAccess) -> None:
    issuer.keys = [*issuer.keys, {"kty": "EC", "crv": "none", "kid": "n"}, {"kty": "RSA"}, "text", None]  # type: ignore[list-item]
    assert await access.identify(issuer.sign().encode()) is not None


async def test_keys_are_not_fetched_in_clear_text(access: OidcAccess) -> None:
    with pytest.raises(ValueError, match="https"):
        await access._fetch("http://login.example.com/keys")


async def test_without_any_key_nobody_can_be_judged(issuer: Issuer, access: OidcAccess) -> None:
    issuer.is_away = True
    with pytest.raises(UnavailableError):
        await access.identify(issuer.sign().encode())


@pytest.mark.parametrize(
    ("claims", "scopes", "queues"),
    [
        ({"scope": "taskfleet:admin"}, {KeyScope.ADMIN}, ()),
        ({"scope": ["taskfleet:read", "admin", 7], "q": ["a", "b-*"]}, {KeyScope.READ}, ("a", "b-*")),
        ({"scope": "submit read", "q": "a b"}, set(), ("a", "b")),
        ({}, set(), ()),
    ],
)
def test_claims_become_scopes_and_queues(
    claims: dict[str, Any], scopes: set[KeyScope], queues: tuple[str, ...]
) -> None:
    """A claim that is missing allows nothing."""
    caller = build_caller({"sub": "jane", **claims}, OidcRules("https://i.example", AUDIENCE, queues_claim="q"))
    assert (caller.scopes, caller.queues) == (scopes, queues)


async def test_tokens_work_over_http_beside_keys(issuer: Issuer, tmp_path: Any) -> None:
    admin = "correct-horse-battery-staple"
    settings = build_settings(
        tmp_path, auth_mode="apiKey", admin_key=admin, oidc_issuer=issuer.url, oidc_audience=AUDIENCE
    )
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client,
    ):

        async def get(token: str) -> int:
            return (await client.get("/api/v1/tasks", headers={"Authorization": f"Bearer {token}"})).status_code

        assert await get(issuer.sign()) == 200
        assert await get(issuer.sign(scope="taskfleet:submit")) == 403
        assert await get(issuer.sign(OTHER_KEY)) == 401
        assert await get(admin) == 200
