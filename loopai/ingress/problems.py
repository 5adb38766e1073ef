"""Errors as problem documents (RFC 9457), whatever raised them."""

import secrets
from typing import Final

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from loopai import errors
from loopai.catalog import programs
from streams import publisher, replay, store

log = structlog.get_logger()

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
TRANSLATED: Final = (
    publisher.BacklogFull,
    publisher.NotPublished,
    store.StoreUnavailable,
    replay.ReplayFailed,
    programs.StoreError,
)
"""Exceptions of the layers below that `translate` knows."""
_STATUS_CODES: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "BODY_TOO_LARGE"}

_encoder = msgspec.json.Encoder()


def trace_id(request: Request) -> str:
    """The trace id of the caller's `traceparent` (W3C Trace Context), or a new one."""
    known: str | None = request.scope.get("loopai.trace_id")
    if known is None:
        parts = request.headers.get("traceparent", "").split("-")
        valid = len(parts) >= 4 and len(parts[1]) == 32 and parts[1].isalnum()  # noqa: PLR2004
        known = parts[1] if valid else secrets.token_hex(16)
        request.scope["loopai.trace_id"] = known
    return known


def response(request: Request, error: errors.ApiError) -> Response:
    document: dict[str, object] = {
        "type": f"urn:loopai:error:{error.code}",
        "title": errors.CODES[error.code].title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "trace_id": trace_id(request),
        **error.extra,
    }
    if error.errors:
        document["errors"] = error.errors
    headers = {}
    retry_after_s = error.retry_after_s
    if retry_after_s is None and error.status == 503:  # noqa: PLR2004
        retry_after_s = RETRY_AFTER_S
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return Response(
        _encoder.encode(document), error.status, headers=headers, media_type=CONTENT_TYPE
    )


def translate(error: Exception) -> errors.ApiError:  # noqa: PLR0911 (one line a case)
    """The ApiError that *error* means to a caller; INTERNAL where we did not foresee it."""
    match error:
        case errors.ApiError():
            return error
        case publisher.BacklogFull():
            return errors.ApiError("BACKLOG_FULL", f"{error}; try again later")
        case publisher.NotPublished() | store.StoreUnavailable() | replay.ReplayFailed():
            return errors.ApiError("UNAVAILABLE", str(error))
        case programs.StoreError():
            return errors.ApiError("STORE_UNAVAILABLE", str(error))
        case HTTPException(status_code=status) if status in _STATUS_CODES:
            return errors.ApiError(_STATUS_CODES[status], error.detail)
        case HTTPException(status_code=400):
            return errors.ApiError("INVALID_QUERY", error.detail)
    return errors.ApiError("INTERNAL", "an unexpected error; the log has it under the trace id")


async def handle(request: Request, error: Exception) -> Response:
    """Starlette's exception handler for everything."""
    translated = translate(error)
    if translated.code == "INTERNAL":
        log.error("unexpected error", trace_id=trace_id(request), exc_info=error)
    return response(request, translated)
