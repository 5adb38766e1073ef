"""From a call to the HTTP application of the same process, and back.

Whatever is not the plain execution takes this way, so that it means the same over both by
construction: who may ask, what is limited, what is kept, and every sentence of every error.
"""

import asyncio
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Final

import grpc
import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loopai import errors
from loopai.ingress import idempotency, problems
from loopai.ingress.rpc import status

Context = grpc.aio.ServicerContext[bytes, bytes]
RawHeaders = list[tuple[bytes, bytes]]

FORWARDED: Final = frozenset({"authorization", "x-api-key", "traceparent", "x-api-version"})
"""Metadata that mean something; the rest of what HTTP has in headers is in messages."""
TOLD: Final = frozenset(
    {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"}
    | {name.lower() for name in (*idempotency.REPLAYED, "x-api-version", "www-authenticate")}
)
"""Headers of an answer that trailing metadata have."""
FAILED_FROM: Final = 400
_TASK: Final = re.compile(r"[^/]+")

_encode = msgspec.json.Encoder().encode
_raw = msgspec.json.Decoder(msgspec.Raw)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    status: int
    headers: RawHeaders
    body: bytes

    def require_ok(self) -> bytes:
        """The body. Refused, where it is a problem document."""
        if self.status >= FAILED_FROM:
            raise refused(self.headers, self.body)
        return self.body


class Inside:
    """The application, asked by calls. `drain` it before what it shares is closed."""

    def __init__(self, application: ASGIApp) -> None:
        self._running: set[asyncio.Task[Answer]] = set()
        self._application = application

    async def ask(self, scope: Scope, body: bytes) -> Answer:
        """The whole answer.

        Who leaves is one who leaves over HTTP: what must be kept all the same goes on.
        """
        left = asyncio.Event()
        asking = asyncio.create_task(self._ask(scope, body, left))
        self._running.add(asking)
        asking.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(asking)
        finally:
            left.set()

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """For who sees to the pieces; those are drained with their calls."""
        await self._application(scope, receive, send)

    async def drain(self, within_s: float) -> None:
        """What goes on ends in *within_s*, or is ended."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=within_s)
            for each in late:
                each.cancel()

    async def _ask(self, scope: Scope, body: bytes, left: asyncio.Event) -> Answer:
        pieces: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        start: Message = {}
        parts: list[bytes] = []

        async def receive() -> Message:
            if pieces:
                return pieces.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            else:
                parts.append(message.get("body", b""))

        await self.run(scope, receive, send)
        return Answer(status=start["status"], headers=start["headers"], body=b"".join(parts))


def headers(context: Context) -> RawHeaders:
    """Of the metadata of a call, what means something."""
    return [
        (name.encode(), value.encode("latin-1") if isinstance(value, str) else bytes(value))
        for name, value in context.invocation_metadata() or ()
        if name in FORWARDED
    ]


def scope(
    method: str,
    path: str,
    given: RawHeaders,
    *,
    query: Mapping[str, object] | None = None,
    body: bytes | None = None,
    media: bytes = b"application/json",
    key: str | None = None,
) -> Scope:
    """The request of a call. Without a *body* that is known, one that comes in pieces."""
    told = [*given, (b"content-type", media)]
    if body is not None:
        told.append((b"content-length", b"%d" % len(body)))
    if key is not None:
        told.append((idempotency.HEADER.lower().encode(), key.encode("utf-8")))
    asked = {name: _text(value) for name, value in (query or {}).items() if value is not None}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "2",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": urllib.parse.quote(path).encode(),
        "query_string": urllib.parse.urlencode(asked).encode(),
        "root_path": "",
        "headers": told,
        "client": None,
        "server": None,
        "state": {},
    }


def named(message: str, field: str, name: str) -> str:
    """*name*, if it can stand in a path. INVALID_REQUEST names the *field* of the *message*."""
    if _TASK.fullmatch(name) is None:
        raise invalid(f"/{field}", f"expected an id or a name in {field} of {message}")
    return name


def document(name: str, value: bytes) -> bytes:
    """*value*, if it is one JSON document. MALFORMED_JSON."""
    try:
        return bytes(_raw.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.ApiError("MALFORMED_JSON", f"/{name} is not JSON: {error}") from error


def fields(known: Iterable[tuple[str, object]]) -> bytes:
    """`,"name":value` of all that are not None: as our clients write them over HTTP."""
    return b"".join(
        b',"%b":%b' % (name.encode(), _encode(value)) for name, value in known if value is not None
    )


def invalid(path: str, message: str) -> errors.ApiError:
    return errors.ApiError(
        "INVALID_REQUEST", f"{path}: {message}", errors=(errors.FieldError(path, message),)
    )


def told(given: Iterable[tuple[bytes, bytes]]) -> status.Metadata:
    """Trailing metadata: what the headers of an answer tell of more than its body."""
    return tuple(
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in given
        if name.decode("latin-1").lower() in TOLD
    )


def refused(given: RawHeaders, body: bytes) -> status.Refused:
    """What an answer that is a problem document is here."""
    after = Headers(raw=given).get("retry-after")
    found = status.of_document(body, None if after is None else int(after))
    found.metadata += told(given)
    return found


def trace_id(given: RawHeaders) -> str:
    return problems.parent_trace_id(dict(given).get(b"traceparent", b"").decode("latin-1"))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
