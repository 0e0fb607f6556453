"""What can be said of Kubernetes authentication without a cluster; tests/controlplane has the rest."""

from pathlib import Path

import certifi
import httpx
import pytest
from tests.support.processes import free_port
from tests.unit.api.conftest import build_settings

from taskfleet_api.app import create_app
from taskfleet_api.kubernetes_access import KubernetesAccess, find_kubernetes_url

KEY = "correct-horse-battery-staple"


@pytest.mark.parametrize(
    ("host", "url"), [("10.0.0.1", "https://10.0.0.1:6443"), ("fd00::1", "https://[fd00::1]:6443")]
)
def test_the_cluster_is_found_by_its_variables(monkeypatch: pytest.MonkeyPatch, host: str, url: str) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    assert find_kubernetes_url() == url


def test_outside_of_a_cluster_the_address_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ValueError, match="kubernetes_url"):
        find_kubernetes_url()


async def test_a_kubernetes_api_that_is_away_is_a_503_for_tokens_and_nothing_to_keys(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("mine")
    certificates = Path(certifi.where())
    settings = build_settings(
        tmp_path,
        auth_mode="apiKey",
        admin_key=KEY,
        kubernetes_auth=True,
        kubernetes_url=f"https://127.0.0.1:{free_port()}",
        kubernetes_token_file=token,
        kubernetes_ca_file=certificates,
    )
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        for method in ("GET", "POST"):
            answer = await client.request(method, "/api/v1/tasks", headers={"Authorization": "Bearer a.b.c"})
            assert answer.status_code == 503
            assert "Kubernetes" in answer.json()["detail"]
        assert (await client.get("/api/v1/tasks", headers={"X-API-Key": KEY})).status_code == 200


@pytest.mark.parametrize(("audiences", "is_good"), [(["taskfleet"], True), (["other"], False), (None, False)])
async def test_a_token_must_be_made_for_us(tmp_path: Path, audiences: list[str] | None, is_good: bool) -> None:
    """Also when who reviews it knows nothing of audiences: then the answer has none."""
    token = tmp_path / "token"
    token.write_text("mine")
    status = {"authenticated": True, "user": {"username": "jane"}, "audiences": audiences}
    reviewer = httpx.MockTransport(lambda _: httpx.Response(201, json={"status": status}))
    access = KubernetesAccess(
        "https://cluster", token_file=token, ca_file=Path(certifi.where()), audiences=["taskfleet"], transport=reviewer
    )
    assert (await access.identify(b"a.b.c", b"digest", "GET", "/api/v1/tasks") is not None) is is_good
    await access.close()
