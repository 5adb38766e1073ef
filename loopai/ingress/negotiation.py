"""What a request says of itself and of its answer: media types, codings, the API's version."""

from typing import Final

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from loopai import errors
from loopai.ingress import accept, batch
from loopai.ingress.describe import document
from loopai.ingress.describe.operation import JSON, NDJSON, Operation

VERSION: Final = "1"
FORM: Final = "application/x-www-form-urlencoded"
"""What `curl -d` says of whatever it sends; and what pages of other sites may send unasked."""
_READ: Final = {JSON: frozenset({JSON}), NDJSON: batch.NDJSON_TYPES}
"""Names that a body may be given, by what the description calls it."""
_ENCODINGS: Final = frozenset({"utf-8", "utf8", "us-ascii"})


def negotiated(prefix: str, route: Route) -> Route:
    """*route*, which is mounted at *prefix*, behind a check by its description, if it has one."""
    operations = {
        method: found
        for method in route.methods or ()
        if (found := document.described("GET" if method == "HEAD" else method, prefix + route.path))
    }
    if not operations:
        return route
    return Route(
        route.path,
        route.endpoint,
        methods=list(route.methods or ()),
        middleware=[Middleware(Negotiate, operations)],
    )


class Negotiate:
    """Lets through what the route's *operations*, by method, can read and answer."""

    def __init__(self, app: ASGIApp, operations: dict[str, Operation]) -> None:
        self._app = app
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._operations.get(scope["method"])
        if operation is not None:
            headers = Headers(scope=scope)
            if operation.is_api:
                require_version(headers)
            _require_readable(headers, operation)
            _require_acceptable(headers, operation)
        await self._app(scope, receive, send)


def require_version(headers: Headers) -> None:
    """UNSUPPORTED_VERSION where the caller was written for another one."""
    for asked in headers.getlist("x-api-version"):
        if asked.strip() != VERSION:
            raise errors.ApiError(
                "UNSUPPORTED_VERSION",
                f"X-Api-Version {asked[:100]!r}: expected {VERSION}, or no such header",
            )


def _require_readable(headers: Headers, operation: Operation) -> None:
    """UNSUPPORTED_MEDIA_TYPE where there is a body that is not read here."""
    if operation.body is None:
        return
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise _unsupported(f"Content-Encoding {coding[:100]!r}: send the body as it is")
    given = headers.get("content-type")
    # A browser tells the origin of what a page sends: what needs no leave of ours there, a form or
    # something of no type, would let anybody's page have work done by whoever looks at it.
    from_a_page = "origin" in headers
    if given is None and not from_a_page:
        return
    media, _, parameters = (given or "").partition(";")
    media = media.strip().lower()
    names = {name for each in operation.body.media for name in _READ[each]}
    if media not in names and (media != FORM or from_a_page):
        expected = " or ".join(operation.body.media)
        raise _unsupported(f"Content-Type {media[:100]!r}: expected {expected}")
    name, _, value = parameters.partition("=")
    encoding = value.strip().strip('"').lower()
    if name.strip().lower() == "charset" and encoding not in _ENCODINGS:
        raise _unsupported(f"charset {encoding[:100]!r}: JSON is UTF-8 (RFC 8259)")


def _unsupported(detail: str) -> errors.ApiError:
    return errors.ApiError("UNSUPPORTED_MEDIA_TYPE", detail)


def _require_acceptable(headers: Headers, operation: Operation) -> None:
    """NOT_ACCEPTABLE where Accept leaves out all that the operation gives (RFC 9110, 12.5.1)."""
    lines = headers.getlist("accept")
    if not operation.gives or not lines:
        return
    accepted = ",".join(lines)
    if not accepted.strip(" \t,") or any(
        accept.quality(accepted, each) for each in operation.gives
    ):
        return
    raise errors.ApiError(
        "NOT_ACCEPTABLE",
        f"Accept {accepted[:100]!r}: this is given as {' or '.join(sorted(operation.gives))}",
    )
