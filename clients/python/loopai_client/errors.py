"""What can go wrong: one class for each family of statuses, and three without an answer."""

from typing import Any

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with a body: *path* is a JSON Pointer (RFC 6901)."""

    path: str = ""
    message: str = ""


class LoopaiError(Exception):
    """Everything that this package raises by itself."""


class ConnectionFailed(LoopaiError):  # noqa: N818 (it says what happened)
    """No whole answer came: the request may have been done or not."""


class DeadlineExceeded(LoopaiError):  # noqa: N818 (it says what happened)
    """The time that the caller gave was over before there was an answer."""


class ExecutionFailed(LoopaiError):  # noqa: N818 (it says what happened)
    """An execution ended without an output. `execution` is all that is known of it."""

    def __init__(self, message: str, execution: Any) -> None:
        super().__init__(message)
        self.execution = execution


class ApiError(LoopaiError):
    """The server refused or failed; act on `code`, `detail` is for people."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: tuple[FieldError, ...] = (),
        trace_id: str | None = None,
        retry_after_s: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        """Where in the body, for a body that is not of the documented form."""
        self.trace_id = trace_id
        self.retry_after_s = retry_after_s
        """Seconds, where the server says when to ask again."""
        self.extra = extra or {}
        """Other members of the problem document, such as `execution_id`."""


class BadRequestError(ApiError):
    """A 4xx without a class of its own: the request is wrong as it is."""


class AuthenticationError(ApiError):
    """401: no key, or none that is known."""


class PermissionDeniedError(ApiError):
    """403: the key lacks a scope."""


class NotFoundError(ApiError):
    """404: no such task, version, execution."""


class ConflictError(ApiError):
    """409 and 412: something else is there already, or has changed meanwhile."""


class InvalidRequestError(ApiError):
    """422: of the wrong form; `errors` says where."""


class RateLimitedError(ApiError):
    """429: more than the rate or the quota allows."""


class ServerError(ApiError):
    """5xx: not the caller's fault."""


class UnavailableError(ServerError):
    """503: full or away; ask again after `retry_after_s`."""


_CLASSES: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    412: ConflictError,
    422: InvalidRequestError,
    429: RateLimitedError,
    503: UnavailableError,
}
_SERVER_FAULT = 500
_KNOWN = ("type", "title", "status", "detail", "code", "trace_id", "errors")
_DETAIL_CHARACTERS_MAX = 200
"""Of an answer that is no problem document, such as a proxy's page."""


def of(status: int, body: bytes, retry_after_s: float | None) -> ApiError:
    """The error that an answer of *status* means, whoever wrote it."""
    try:
        document = msgspec.json.decode(body, type=dict[str, Any])
        errors = msgspec.convert(document.get("errors", ()), tuple[FieldError, ...])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        document, errors = {}, ()
    fallback = ServerError if status >= _SERVER_FAULT else BadRequestError
    text = body[:_DETAIL_CHARACTERS_MAX].decode(errors="replace")
    return _CLASSES.get(status, fallback)(
        status,
        str(document.get("code", "UNKNOWN")),
        str(document.get("detail") or document.get("title") or text),
        errors=errors,
        trace_id=document.get("trace_id"),
        retry_after_s=retry_after_s,
        extra={name: value for name, value in document.items() if name not in _KNOWN},
    )
