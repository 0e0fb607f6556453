"""The built files of the console, read once: small enough for memory, packed once for those who take gzip."""

import gzip
import hashlib
import html
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["STATIC", "ConsoleFile", "build_page", "read_files"]

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"
BASE = '<base href="/ui/"'
SMALLEST_PACKED_BYTES = 1024


@dataclass(frozen=True, slots=True)
class ConsoleFile:
    """One file as it is sent."""

    body: bytes
    packed: bytes | None  # None where packing does not pay
    media_type: str
    etag: str
    immutable: bool  # its name changes with its content


@cache
def read_files(folder: Path = STATIC) -> dict[str, ConsoleFile]:
    """Every built file by its path below `/ui/`; empty when nothing was built. Read once in the life of a process."""
    if not (folder / INDEX).is_file():
        return {}
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): _build_file(path, folder) for path in paths}


def build_page(page: ConsoleFile, root_path: str) -> ConsoleFile:
    """The page for a console behind a proxy's prefix: every address in it is relative to its base."""
    base = f'<base href="{html.escape(root_path)}/ui/"'
    return build_file(page.body.replace(BASE.encode(), base.encode(), 1), page.media_type)


def build_file(body: bytes, media_type: str, *, immutable: bool = False) -> ConsoleFile:
    """A file of these bytes."""
    packed = gzip.compress(body, mtime=0) if len(body) >= SMALLEST_PACKED_BYTES else None
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    return ConsoleFile(body, packed, media_type, etag, immutable)


def _build_file(path: Path, folder: Path) -> ConsoleFile:
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return build_file(path.read_bytes(), media_type, immutable=path.parent != folder)
