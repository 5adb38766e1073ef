"""Errors as problem documents (RFC 9457), whatever raised them."""

import re
import secrets
from typing import Final

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from loopai import errors
from loopai.catalog.stores import store as stores
from streams import publisher, replay, store

log = structlog.get_logger()

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
CLIENT_CLOSED_REQUEST: Final = 499
"""Never sent, only counted; the number is nginx's."""
TRANSLATED: Final = (
    publisher.BacklogFull,
    publisher.NotPublished,
    store.StoreUnavailable,
    replay.ReplayFailed,
    stores.StoreError,
)
"""Exceptions of the layers below that `translate` knows."""
CHALLENGES: Final = {
    "UNAUTHENTICATED": 'Bearer realm="loopai"',
    "FORBIDDEN": 'Bearer realm="loopai", error="insufficient_scope", scope="{scope}"',
}
"""What `WWW-Authenticate` says with a code (RFC 6750)."""
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_STATUS_CODES: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "BODY_TOO_LARGE"}

_encoder = msgspec.json.Encoder()


def trace_id(request: Request) -> str:
    """The trace id of the caller's `traceparent` (W3C Trace Context), or a new one."""
    known: str | None = request.scope.get("loopai.trace_id")
    if known is None:
        known = parent_trace_id(request.headers.get("traceparent", ""))
        request.scope["loopai.trace_id"] = known
    return known


def parent_trace_id(traceparent: str) -> str:
    """The trace id in *traceparent*, or a new one where there is none."""
    parent = _TRACEPARENT.match(traceparent) if traceparent else None
    return parent[1] if parent else secrets.token_hex(16)


def document(error: errors.ApiError, trace_id: str) -> bytes:
    """*error* as a problem document."""
    members: dict[str, object] = {
        "type": f"urn:loopai:error:{error.code}",
        "title": errors.CODES[error.code].title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "trace_id": trace_id,
        **error.extra,
    }
    if error.errors:
        members["errors"] = error.errors
    return _encoder.encode(members)


def retry_after_s(error: errors.ApiError) -> int | None:
    """When to try again; None where that is not known to help."""
    if error.retry_after_s is None and error.status == 503:  # noqa: PLR2004
        return RETRY_AFTER_S
    return error.retry_after_s


def response(request: Request, error: errors.ApiError) -> Response:
    headers = {}
    if error.code in CHALLENGES:
        headers["WWW-Authenticate"] = CHALLENGES[error.code].format(**error.extra)
    if error.code == "METHOD_NOT_ALLOWED":
        headers["Allow"] = ", ".join(_allowed(request))
    if error.code == "REQUEST_TIMEOUT":
        headers["Connection"] = "close"  # the rest of the request would be read as another one
    after_s = retry_after_s(error)
    if after_s is not None:
        headers["Retry-After"] = str(after_s)
    body = document(error, trace_id(request))
    return Response(body, error.status, headers=headers, media_type=CONTENT_TYPE)


def translate(error: Exception) -> errors.ApiError:  # noqa: PLR0911 (one line a case)
    """The ApiError that *error* means to a caller; INTERNAL where we did not foresee it."""
    match error:
        case errors.ApiError():
            return error
        case publisher.BacklogFull():
            return errors.ApiError("BACKLOG_FULL", f"{error}; try again later")
        case publisher.NotPublished() | store.StoreUnavailable() | replay.ReplayFailed():
            return errors.ApiError("UNAVAILABLE", str(error))
        case stores.StoreError():
            return stores.problem(error)
        case HTTPException(status_code=status) if status in _STATUS_CODES:
            return errors.ApiError(_STATUS_CODES[status], error.detail)
        case HTTPException(status_code=400):
            return errors.ApiError("INVALID_QUERY", error.detail)
    return errors.ApiError("INTERNAL", "an unexpected error; the log has it under the trace id")


def _allowed(request: Request) -> list[str]:
    """The methods of all routes that match the path: Starlette names those of the first only.

    Where a route is spelled like that it is meant, and none with a name in the place of a word.
    """
    pending: list[BaseRoute] = list(request.app.routes)
    path = _path_below(request)
    found: dict[str, set[str]] = {}
    while pending:
        route = pending.pop()
        if isinstance(route, Mount):
            pending.extend(route.routes)
        elif isinstance(route, Route) and route.path_regex.match(path):
            found.setdefault(route.path, set()).update(route.methods or ())
    return sorted(found.get(path) or set().union(*found.values()))


def _placed(request: Request, error: errors.ApiError) -> errors.ApiError:
    """*error* with what was asked for: Starlette says no more than the status."""
    if error.code == "NOT_FOUND":
        path = request.scope["path"][:200]
        return errors.ApiError("NOT_FOUND", f"no path {path!r}; /openapi.json has them all")
    if error.code == "METHOD_NOT_ALLOWED":
        said = f"{request.method[:20]}: expected {', '.join(_allowed(request))}"
        return errors.ApiError("METHOD_NOT_ALLOWED", said)
    return error


def _path_below(request: Request) -> str:
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


async def handle(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for everything."""
    if isinstance(error, ClientDisconnect):
        # In the middle of its body: nobody reads this, and nothing is broken.
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    translated = translate(error)
    if isinstance(error, HTTPException):
        translated = _placed(request, translated)
    if translated.code == "INTERNAL":
        log.error("unexpected error", trace_id=trace_id(request), exc_info=error)
    return response(request, translated)
