"""`/openapi.json`, `/asyncapi.json` and `/swagger`, whose files come from swagger-ui-bundle."""

import functools
import hashlib
from pathlib import Path
from typing import Final, NamedTuple

import swagger_ui_bundle  # type: ignore[import-untyped]  # files, and the path to them
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai import errors
from loopai.ingress import tags
from loopai.ingress.describe import bus, document

_HERE: Final = Path(__file__).parent / "swagger"
_BUNDLE: Final = Path(str(swagger_ui_bundle.swagger_ui_path))
_PAGE: Final = (_HERE / "index.html", "text/html; charset=utf-8")
_FILES: Final = {
    "initializer.js": (_HERE / "initializer.js", "text/javascript; charset=utf-8"),
    "page.css": (_HERE / "page.css", "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": (_BUNDLE / "swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "swagger-ui.css": (_BUNDLE / "swagger-ui.css", "text/css; charset=utf-8"),
    "favicon.png": (_BUNDLE / "favicon-32x32.png", "image/png"),
}
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # What the page may load and call is ours; its icons are written into its style sheet.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}


class _Page(NamedTuple):
    content: bytes
    media_type: str
    tag: str


async def openapi(request: Request) -> Response:
    return _answer(request, _openapi())


async def asyncapi(request: Request) -> Response:
    return _answer(request, _asyncapi())


async def swagger(request: Request) -> Response:
    return _answer(request, _read(*_PAGE))


async def file(request: Request) -> Response:
    """One of the files that the page loads."""
    known = _FILES.get(request.path_params["file"])
    if known is None:
        raise errors.ApiError("NOT_FOUND", "the page has no such file")
    return _answer(request, _read(*known))


def _answer(request: Request, page: _Page) -> Response:
    headers = {**_HEADERS, "ETag": page.tag}
    if tags.names(request.headers.getlist("if-none-match"), page.tag):
        return Response(status_code=304, headers=headers)
    return Response(page.content, headers={**headers, "Content-Type": page.media_type})


@functools.cache
def _openapi() -> _Page:
    return _page(document.encoded(), "application/json")


@functools.cache
def _asyncapi() -> _Page:
    return _page(bus.encoded(), "application/json")


@functools.cache
def _read(path: Path, media_type: str) -> _Page:
    return _page(path.read_bytes(), media_type)


def _page(content: bytes, media_type: str) -> _Page:
    return _Page(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')


routes = [
    Route("/openapi.json", openapi, methods=["GET"]),
    Route("/asyncapi.json", asyncapi, methods=["GET"]),
    Route("/swagger", swagger, methods=["GET"]),
    Route("/swagger/{file}", file, methods=["GET"]),
]
