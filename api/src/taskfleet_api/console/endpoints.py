"""`/ui/` and the way there. The files hold no data: they are sent without a key, and ask for one themselves."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from taskfleet_api.console.files import INDEX, ConsoleFile, build_file, build_page, read_files

__all__ = ["build_router", "is_console_path"]

# Nothing from other hosts, no inline scripts or styles, nobody frames it, no form leaves it.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
IMMUTABLE_SECONDS = 31_536_000
NOT_BUILT = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Taskfleet</title></head><body>
<h1>The console is not built</h1>
<p>This API was installed from sources without it. With Node.js 20.19 or newer and npm, run <code>hack/console</code>
in the sources and start the API again. The API itself works: see <a href="../docs">its documentation</a>.</p>
</body></html>
"""


def is_console_path(path: str) -> bool:
    """Whether the console answers there."""
    return path in ("/", "/ui") or path.startswith("/ui/")


def build_router(root_path: str) -> APIRouter:
    """The routes of the console. What no file is, is a page: the browser's part knows them."""
    files = read_files()
    page = build_page(files[INDEX], root_path) if files else None
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @router.get("/ui")
    async def redirect() -> RedirectResponse:
        return RedirectResponse(f"{root_path}/ui/")

    @router.get("/ui/{path:path}")
    async def send(path: str, request: Request) -> Response:
        if page is None:
            return Response(NOT_BUILT, 503, _build_headers(build_file(NOT_BUILT, "text/html")), "text/html")
        found = page if path == INDEX else files.get(path)
        if found is None and path.startswith("assets/"):
            return Response("There is no such file.", 404, media_type="text/plain")
        return _send(found or page, request)

    return router


def _send(file: ConsoleFile, request: Request) -> Response:
    headers = _build_headers(file)
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    takes_gzip = "gzip" in request.headers.get("accept-encoding", "")
    if file.packed is not None and takes_gzip:
        return Response(file.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)
    return Response(file.body, headers=headers, media_type=file.media_type)


def _build_headers(file: ConsoleFile) -> dict[str, str]:
    caching = f"public, max-age={IMMUTABLE_SECONDS}, immutable" if file.immutable else "no-cache"
    return {
        "Cache-Control": caching,
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
    }
