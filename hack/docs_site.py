"""Hooks of mkdocs.yml: pages of the repository beside docs/ become pages too, and nothing is fetched from other hosts.

Links that lead out of docs/, such as `../SECURITY.md`, are right for who reads the files where they lie. On the site
their targets stand under project/, as pages (Markdown) or as files; the links are written anew.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
PROJECT = "project"
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?(?:\s[^)]*)?\))")
FENCE = re.compile(r"^(\s*```(?:bash|sh|shell|python|yaml)) (?:run|show|cluster)$", re.MULTILINE)
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
EXTERNAL = re.compile(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>", re.IGNORECASE)
# A list right behind a line of text, which is one for GitHub, and for Python's Markdown only after an empty line.
CLOSE_LIST = re.compile(r"^(?![-*] |\d+\. |[ |#>`]|<!--)(.+)\n(?=(?:[-*]|\d+\.) )", re.MULTILINE)
LEAST_PAGES = 30


def find_targets(repository_path: str, text: str) -> Iterator[tuple[str, str]]:
    """(as written, path in the repository) of each link to another file."""
    folder = PurePosixPath(repository_path).parent
    for match in LINK.finditer(text):
        written = match[2]
        if "://" not in written and not written.startswith("mailto:"):
            yield written, os.path.normpath(folder / written)


def place(repository_path: str) -> str:
    """Where a file of the repository is on the site, before it is rendered."""
    inside = repository_path.removeprefix(f"{DOCS}/")
    return inside if inside != repository_path else f"{PROJECT}/{repository_path}"


def rewrite(repository_path: str, text: str) -> str:
    """A page's text as it stands on the site: links, fences without the words for the tests, lists apart from text."""
    here = PurePosixPath(place(repository_path)).parent
    moved = {
        written: os.path.relpath(place(target), here)
        for written, target in find_targets(repository_path, text)
        if (ROOT / target).is_file()
    }
    text = LINK.sub(lambda match: f"{match[1]}{moved.get(match[2], match[2])}{match[3]}", text)
    # Outside of fences, which are every second part.
    parts = FENCED.split(FENCE.sub(r"\1", text))
    return "".join(part if number % 2 else CLOSE_LIST.sub(r"\1\n\n", part) for number, part in enumerate(parts))


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to outside of docs/, and what those link to."""
    waiting = [f"{DOCS}/{file.src_uri}" for file in files if file.is_documentation_page()]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        for _, target in find_targets(path, (ROOT / path).read_text(encoding="utf-8")):
            if target in seen or target.startswith(("..", f"{DOCS}/")) or not (ROOT / target).is_file():
                continue
            seen.add(target)
            files.append(File.generated(config, place(target), abs_src_path=str(ROOT / target)))
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page as it is rendered."""
    source = page.file.src_uri
    inside = source.startswith(f"{PROJECT}/")
    return rewrite(source.removeprefix(f"{PROJECT}/") if inside else f"{DOCS}/{source}", markdown)


def on_post_build(config: Any, **_: Any) -> None:
    """Fail when a page would fetch something from another host, or when hardly a page is there."""
    pages = sorted(Path(config["site_dir"]).rglob("*.html"))
    if len(pages) < LEAST_PAGES:
        raise PluginError(f"only {len(pages)} pages were built")
    for page in pages:
        if found := EXTERNAL.search(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page.name} fetches from another host: {found[0][:200]}")
