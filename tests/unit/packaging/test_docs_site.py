"""hack/docs_site.py: links and fences of a page as it stands on the site, and that nothing comes from elsewhere."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """The hooks, as MkDocs loads them."""
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "hack" / "docs_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "written", "expected"),
    [
        ("docs/README.md", "[x](../SECURITY.md)", "[x](project/SECURITY.md)"),
        ("docs/decisions/README.md", "[x](../../SECURITY.md#a)", "[x](../project/SECURITY.md#a)"),
        ("SECURITY.md", "[x](docs/authentication.md)", "[x](../authentication.md)"),
        ("docs/README.md", "[x](quickstart.md)", "[x](quickstart.md)"),
        ("docs/README.md", "[x](https://example.org/a.md)", "[x](https://example.org/a.md)"),
        ("docs/README.md", "[x](nowhere.md)", "[x](nowhere.md)"),
        ("docs/README.md", "```bash run\nls\n```", "```bash\nls\n```"),
        ("docs/README.md", "words\n- one\n- two", "words\n\n- one\n- two"),
        ("docs/README.md", "```text\nwords\n- one\n```", "```text\nwords\n- one\n```"),
    ],
)
def test_a_page_is_written_for_its_place_on_the_site(site: ModuleType, page: str, written: str, expected: str) -> None:
    assert site.rewrite(page, written) == expected


@pytest.mark.parametrize(
    ("tag", "is_external"),
    [
        ('<script src="https://cdn.example.org/a.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example.org/a.css">', True),
        ('<img alt="x" src=https://example.org/a.png>', True),
        ('<a href="https://example.org">x</a>', False),
        ('<script src="assets/a.js"></script>', False),
    ],
)
def test_what_a_page_would_fetch_from_elsewhere_is_seen(site: ModuleType, tag: str, is_external: bool) -> None:
    assert bool(site.EXTERNAL.search(tag)) is is_external
