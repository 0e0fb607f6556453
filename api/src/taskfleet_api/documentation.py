"""`/docs`: Swagger UI from this process's own files, so that the page works without internet access."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.exceptions import HTTPException
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse

__all__ = ["PATHS", "router"]

DOCS_PATH = "/docs"
MEDIA_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
PATHS = frozenset({DOCS_PATH, f"{DOCS_PATH}/oauth2-redirect", *(f"{DOCS_PATH}/{name}" for name in MEDIA_TYPES)})
CACHE_SECONDS = 3600

router = APIRouter(include_in_schema=False)
# Of fastapi-offline only these files are used: they are what the pages of FastAPI would load from a CDN.
_FILES = files("fastapi_offline") / "static"


@router.get(DOCS_PATH)
async def show_documentation(request: Request) -> HTMLResponse:
    """The page; the browser reads the OpenAPI document."""
    root: str = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title=f"{request.app.title} - API",
        oauth2_redirect_url=f"{root}{DOCS_PATH}/oauth2-redirect",
        swagger_js_url=f"{root}{DOCS_PATH}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{DOCS_PATH}/swagger-ui.css",
        swagger_favicon_url=f"{root}{DOCS_PATH}/favicon.png",
    )


@router.get(f"{DOCS_PATH}/oauth2-redirect")
async def redirect_from_login() -> HTMLResponse:
    """Where a login page sends the browser back to."""
    return get_swagger_ui_oauth2_redirect_html()


@router.get(f"{DOCS_PATH}/{{name}}")
async def send_file(name: str) -> FileResponse:
    """A file that the page loads."""
    if name not in MEDIA_TYPES:
        raise HTTPException(404)
    headers = {"Cache-Control": f"max-age={CACHE_SECONDS}"}
    return FileResponse(str(_FILES / name), media_type=MEDIA_TYPES[name], headers=headers)
