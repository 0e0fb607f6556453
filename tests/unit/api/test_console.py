"""`/ui/`: the console's files come with a strict policy, without a key, from this API alone."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.conftest import RunningApp, on_shared

from taskfleet_api.console import endpoints
from taskfleet_api.console.files import read_files

KEY = "correct-horse-battery-staple"
PAGE = '<!doctype html><base href="/ui/" /><script src="./assets/index-1.js"></script>'


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A small console instead of the one that npm builds."""
    folder = tmp_path_factory.mktemp("static")
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    (folder / "theme.js").write_text("1")
    (folder / "assets" / "index-1.js").write_text("x" * 5000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endpoints, "read_files", lambda: read_files(folder))
        yield


@pytest.fixture
def unbuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No console."""
    monkeypatch.setattr(endpoints, "read_files", lambda: read_files(tmp_path / "nothing"))


@pytest.fixture
def console(built: None, shared: RunningApp) -> RunningApp:
    """The app with that console."""
    return shared


@on_shared
@pytest.mark.parametrize("path", ["/ui/", "/ui/queues/jobs", "/ui/tasks", "/ui/index.html", "/ui/../ui/x"])
async def test_every_page_is_the_one_page_with_its_policy(console: RunningApp, path: str) -> None:
    answer = await console.client.get(path)
    assert (answer.status_code, answer.text) == (200, PAGE)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-frame-options"] == "DENY"


@on_shared
@pytest.mark.parametrize("path", ["/", "/ui"])
async def test_the_bare_address_leads_to_it(console: RunningApp, path: str) -> None:
    answer = await console.client.get(path)
    assert (answer.status_code, answer.headers["location"]) == (307, "/ui/")


@on_shared
async def test_files_are_packed_kept_and_asked_for_again(console: RunningApp) -> None:
    file = await console.client.get("/ui/assets/index-1.js")
    assert file.text == "x" * 5000
    assert file.headers["content-encoding"] == "gzip"
    assert "immutable" in file.headers["cache-control"]
    assert re.match("text/javascript", file.headers["content-type"])
    plain = await console.client.get("/ui/assets/index-1.js", headers={"Accept-Encoding": "identity"})
    assert len(plain.content) == 5000
    page = await console.client.get("/ui/")
    again = await console.client.get("/ui/", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@on_shared
async def test_a_file_that_does_not_exist_is_no_page(console: RunningApp) -> None:
    assert (await console.client.get("/ui/assets/index-2.js")).status_code == 404
    assert (await console.client.get("/ui/assets/..%2f..%2ffiles.py")).status_code == 404


@pytest.mark.parametrize("overrides", [{"root_path": "/taskfleet"}])
async def test_behind_a_prefix_the_base_has_it(built: None, running: RunningApp) -> None:
    assert '<base href="/taskfleet/ui/"' in (await running.client.get("/taskfleet/ui/tasks")).text
    assert (await running.client.get("/taskfleet/")).headers["location"] == "/taskfleet/ui/"


@pytest.mark.parametrize("overrides", [{"auth_mode": "apiKey", "admin_key": KEY}])
async def test_the_files_need_no_key_and_the_data_does(built: None, running: RunningApp) -> None:
    assert (await running.client.get("/ui/")).status_code == 200
    assert (await running.client.get("/api/v1/queues")).status_code == 401


@pytest.mark.parametrize(
    ("overrides", "status"),
    [({"console": False}, 404), ({"console": False, "auth_mode": "apiKey", "admin_key": KEY}, 404)],
    ids=["open", "with keys"],
)
async def test_switched_off_there_is_nothing(
    built: None, running: RunningApp, overrides: dict[str, Any], status: int
) -> None:
    for path in ("/", "/ui", "/ui/", "/ui/theme.js"):
        assert (await running.client.get(path)).status_code == status


@pytest.fixture
async def without_console(unbuilt: None, running: RunningApp) -> RunningApp:
    """The app from sources in which npm never ran."""
    return running


async def test_without_built_files_it_says_how_to_build_them(without_console: RunningApp) -> None:
    answer = await without_console.client.get("/ui/")
    assert answer.status_code == 503
    assert "hack/console" in answer.text
    assert (await without_console.client.get("/livez")).status_code == 200
