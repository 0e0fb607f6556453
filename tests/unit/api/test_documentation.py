"""`/docs` needs nothing but the API itself."""

import re

import pytest
from tests.unit.api.conftest import RunningApp

ADDRESS = re.compile(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""")


@pytest.mark.parametrize("overrides", [{}, {"root_path": "/taskfleet"}], ids=["plain", "behind a prefix"])
async def test_everything_that_the_page_loads_comes_from_the_api(running: RunningApp) -> None:
    root = running.app.state.settings.root_path
    page = await running.client.get(f"{root}/docs")
    assert page.status_code == 200
    loaded = ADDRESS.findall(page.text)
    assert {name.rsplit("/", 1)[1] for name in loaded} >= {"swagger-ui-bundle.js", "swagger-ui.css", "openapi.json"}
    assert "//" not in "".join(loaded)
    for address in loaded:
        assert (await running.client.get(address)).status_code == 200


async def test_no_other_file_is_sent(running: RunningApp) -> None:
    for name in ("redoc.standalone.js", "..%2fcore.py", "core.py"):
        assert (await running.client.get(f"/docs/{name}")).status_code == 404
